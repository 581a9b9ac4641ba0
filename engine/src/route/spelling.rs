//! Whether a request line is spelt as its route takes it: spellings that only some routes allow, who somebody is in the
//! query, values that are not of their types.

use super::Route;
use crate::path::{CanonicalPath, Leniencies};
use crate::query::CanonicalQuery;
use crate::refusal::Malformed;

/// Why a route does not take a request line that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misspelt {
    /// What is told.
    pub fault: Malformed,
    /// What records say beside it.
    pub detail: Option<String>,
}

impl Route {
    /// Whether the route takes this path and query.
    ///
    /// # Errors
    /// A spelling that it does not allow by name, a query parameter that says who someone is, a declared one that is
    /// repeated or no value of its type.
    pub fn takes(&self, path: &CanonicalPath, query: &CanonicalQuery) -> Result<(), Misspelt> {
        within(path, query, self.leniencies).map_err(|fault| Misspelt { fault, detail: None })?;
        if let Some(name) = query.identity_name(&self.identity_names()) {
            let detail = format!("query parameter `{name}` says who someone is");
            return Err(Misspelt { fault: Malformed::QUERY_IDENTITY, detail: Some(detail) });
        }
        if let Some(name) = self.misfit(query) {
            let detail = format!("query parameter `{name}` is repeated, or not a value of its type");
            return Err(Misspelt { fault: Malformed::QUERY_BAD_VALUE, detail: Some(detail) });
        }
        Ok(())
    }
}

/// Whether a request line that no route names is spelt in one way.
///
/// # Errors
/// The spelling that no route has allowed.
pub fn unrouted(path: &CanonicalPath, query: &CanonicalQuery) -> Result<(), Malformed> {
    within(path, query, Leniencies::default())
}

fn within(path: &CanonicalPath, query: &CanonicalQuery, allowed: Leniencies) -> Result<(), Malformed> {
    let needs = Leniencies { repeated_query: query.repeated().is_some(), ..path.lenient() };
    needs.refused_by(allowed).map_or(Ok(()), Err)
}
