//! The environment's variables, read once and handed on, so that nothing else asks the process for them.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// Variables by name. Has no `Debug`: some of the values are secrets.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Value>,
}

#[derive(Clone)]
enum Value {
    Text(Zeroizing<String>),
    NotUnicode,
}

/// A variable's value.
pub(super) enum Variable<'e> {
    /// As written.
    Text(&'e str),
    /// Set, to bytes that are no UTF-8.
    NotUnicode,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            // A name that is no UTF-8 is none of ours.
            let name = name.into_string().ok()?;
            let value =
                value.into_string().map_or(Value::NotUnicode, |text| Value::Text(Zeroizing::new(text)));
            Some((name, value))
        });
        Self { variables: variables.collect() }
    }

    /// The same, with one variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), Value::Text(Zeroizing::new(value.to_owned())));
        self
    }

    /// The same, without one variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// The text of a variable, where it is set to one.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.variables.get(name) {
            Some(Value::Text(text)) => Some(text),
            Some(Value::NotUnicode) | None => None,
        }
    }

    pub(super) fn variable(&self, name: &str) -> Option<Variable<'_>> {
        self.variables.get(name).map(|value| match value {
            Value::Text(text) => Variable::Text(text),
            Value::NotUnicode => Variable::NotUnicode,
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }
}
