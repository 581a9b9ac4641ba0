//! The compiled table: one trie over shapes, static before parameter before tail, with backtracking.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use smol_str::SmolStr;

use super::file::Declared;
use super::pattern::{Pattern, Piece};
use super::{PARAMETERS_MAX, ParamType, Parameters, Route, RouteMatch};
use crate::path::{CanonicalPath, decode_segment};
use crate::query::CanonicalQuery;
use crate::shared::Shared;

/// All routes of a bundle, compiled.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    root: Node,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Hashed without a secret: it grows with the routes alone, never with what is asked for.
    statics: FxHashMap<SmolStr, Node>,
    parameter: Option<Box<Node>>,
    /// Rows that end here.
    rows: SmallVec<[Ending; 2]>,
    /// Rows whose tail begins here.
    tails: Vec<Ending>,
}

/// A row, beside the method that tells it from others of its path: those are passed over without being read.
#[derive(Clone, Debug)]
struct Ending {
    method: Method,
    route: Arc<Route>,
}

/// Two rows that answer the same requests, by their index.
pub(crate) type Ambiguity = (usize, usize);

impl RouteTable {
    /// Compiles the rows, or names every pair that would answer the same requests.
    pub(crate) fn compile(declared: &[Declared]) -> Result<Self, Vec<Ambiguity>> {
        let ambiguities = ambiguities(declared);
        if !ambiguities.is_empty() {
            return Err(ambiguities);
        }
        let (mut table, mut shared) = (Self::default(), Shared::default());
        let mut lists = Shared::default();
        for row in declared {
            let mut route = row.route.clone();
            for name in [&mut route.action, &mut route.module, &mut route.class] {
                *name = shared.one(Arc::clone(name));
            }
            for list in [&mut route.parameters, &mut route.query] {
                *list = lists.one(Arc::clone(list));
            }
            let route = Arc::new(route);
            table.root.insert(&row.pattern, Arc::clone(&route));
            table.routes.push(route);
        }
        Ok(table)
    }

    /// The route that names this method and path, if there is one.
    #[must_use]
    pub fn find(&self, method: &Method, path: &CanonicalPath) -> Option<RouteMatch> {
        self.find_text(method, path.as_str())
    }

    /// [`Self::find`] on a path that is canonical by construction.
    pub(crate) fn find_text(&self, method: &Method, path: &str) -> Option<RouteMatch> {
        let segments = segments(path);
        let mut walk = Walk { method, values: SmallVec::new(), near: None };
        let route = walk.node(&self.root, &segments)?;
        let names = route.parameters.iter().map(|(name, _)| name.clone());
        let parameters = names.zip(walk.values.into_iter().map(SmolStr::from)).collect();
        Some(RouteMatch { route: Arc::clone(route), parameters })
    }

    /// Every route, in file order.
    #[must_use]
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The route of this name (`GET /api/docs/:id`), if there is one.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| *route.name == *name)
    }

    /// Why a request matches as it does, for records and people. Costs no more than a search: unrouted floods
    /// are explained, too.
    #[must_use]
    pub fn explain(&self, method: &Method, path: &CanonicalPath) -> String {
        if let Some(found) = self.find(method, path) {
            return format!("matches `{}`", found.route.name);
        }
        let segments = segments(path.as_str());
        let mut walk = Walk { method, values: SmallVec::new(), near: Some(Vec::new()) };
        walk.node(&self.root, &segments);
        let mut others: Vec<&str> = Vec::new();
        let mut mistyped: Vec<String> = Vec::new();
        let near = walk.near.unwrap_or_default();
        for (route, fault) in &near {
            match fault {
                None => others.push(route.method.as_str()),
                Some(fault) if answers(&route.method, method) => {
                    mistyped.push(format!("`{}`: {fault}", route.name))
                }
                Some(_) => {}
            }
        }
        others.sort_unstable();
        others.dedup();
        if !others.is_empty() {
            mistyped.insert(0, format!("path exists for {} only", others.join(", ")));
        }
        if mistyped.is_empty() { "no route has this path".to_owned() } else { mistyped.join("; ") }
    }
}

impl RouteMatch {
    /// What policy is told: the path parameters, then the values of the query parameters that the route declares.
    #[must_use]
    pub fn asked(&self, query: &CanonicalQuery) -> Parameters {
        let mut asked = self.parameters.clone();
        for (name, _) in &*self.route.query {
            if let Some(value) = query.value(name) {
                asked.push((name.clone(), SmolStr::from(value)));
            }
        }
        asked
    }
}

impl Route {
    /// The identity names that a client may send: those that it sets, and those that we set or check.
    #[must_use]
    pub fn identity_names(&self) -> std::borrow::Cow<'_, [String]> {
        if self.sets.is_empty() && self.named.is_empty() {
            return self.client_sets.as_slice().into();
        }
        let ours = self.sets.iter().map(|(name, _)| name).chain(&self.named);
        self.client_sets.iter().chain(ours).cloned().collect::<Vec<_>>().into()
    }

    /// The first declared query parameter whose value is not spelt as its type has it, or that occurs more than
    /// once: policy would see the first value and the upstream might take the last.
    #[must_use]
    pub fn misfit(&self, query: &CanonicalQuery) -> Option<&str> {
        let misfits = |(name, kind): &&(SmolStr, ParamType)| {
            let repeated = query.names().filter(|other| *other == &**name).count() > 1;
            repeated || query.value(name).is_some_and(|value| !kind.accepts(&value))
        };
        self.query.iter().find(misfits).map(|(name, _)| &**name)
    }

    /// A path that this row matches, in canonical spelling.
    pub(crate) fn example_path(&self) -> String {
        let Ok(pattern) = Pattern::parse(&self.pattern) else { return self.pattern.clone() };
        let mut kinds = self.parameters.iter().map(|(_, kind)| kind.example().replace(' ', "%20"));
        let mut path = String::new();
        for piece in &pattern.pieces {
            path.push('/');
            match piece {
                Piece::Static(text) => path.push_str(text),
                Piece::Parameter(_) | Piece::Tail(_) => path.push_str(&kinds.next().unwrap_or_default()),
            }
        }
        path
    }
}

impl Node {
    fn insert(&mut self, pattern: &Pattern, route: Arc<Route>) {
        let mut node = self;
        for piece in &pattern.pieces {
            node = match piece {
                Piece::Static(text) => node.statics.entry(SmolStr::from(text.as_str())).or_default(),
                Piece::Parameter(_) => node.parameter.get_or_insert_default(),
                Piece::Tail(_) => {
                    node.tails.push(Ending { method: route.method.clone(), route });
                    return;
                }
            };
        }
        node.rows.push(Ending { method: route.method.clone(), route });
    }
}

/// One search. A node is reached by one sequence of choices and at one depth, so that a search visits each
/// node at most once: a hostile path costs no more than the size of the table.
struct Walk<'p> {
    method: &'p Method,
    /// The decoded values of the parameters on the way; of a row that was found, all of them.
    values: SmallVec<[Cow<'p, str>; PARAMETERS_MAX]>,
    /// Rows that have the path but not the method, or not the types, with what is wrong; kept to explain.
    near: Option<Vec<(Arc<Route>, Option<String>)>>,
}

impl<'p> Walk<'p> {
    fn node<'t>(&mut self, node: &'t Node, rest: &[&'p str]) -> Option<&'t Arc<Route>> {
        let Some((segment, below)) = rest.split_first() else {
            return self.row(&node.rows, false);
        };
        if let Some(child) = node.statics.get(*segment)
            && let Some(found) = self.node(child, below)
        {
            return Some(found);
        }
        if let Some(child) = &node.parameter {
            let value = decode_segment(segment);
            if let Some(found) = self.with(value, |walk| walk.node(child, below)) {
                return Some(found);
            }
        }
        if node.tails.is_empty() {
            return None;
        }
        let value = decode_tail(rest)?;
        self.with(Cow::Owned(value), |walk| walk.row(&node.tails, true))
    }

    /// Goes on with one more value, which stays where a row is found.
    fn with<'t>(
        &mut self,
        value: Cow<'p, str>,
        go: impl FnOnce(&mut Self) -> Option<&'t Arc<Route>>,
    ) -> Option<&'t Arc<Route>> {
        self.values.push(value);
        let found = go(self);
        if found.is_none() {
            self.values.pop();
        }
        found
    }

    /// At most one row passes: rows of one method and shape have types that no value shares.
    fn row<'t>(&mut self, rows: &'t [Ending], tail: bool) -> Option<&'t Arc<Route>> {
        for Ending { method, route } in rows {
            let has_method = answers(method, self.method);
            if !has_method && self.near.is_none() {
                continue;
            }
            let fault = mistyped(route, &self.values, tail);
            if has_method && fault.is_none() {
                return Some(route);
            }
            if let Some(near) = &mut self.near {
                near.push((Arc::clone(route), fault));
            }
        }
        None
    }
}

/// `GET` rows answer `HEAD`, as RFC 9110 section 9.3.2 has it.
fn answers(row: &Method, method: &Method) -> bool {
    row == method || (*method == Method::HEAD && *row == Method::GET)
}

/// The segments of a path. Those of most paths stand in place.
fn segments(text: &str) -> SmallVec<[&str; 16]> {
    let mut rest = text.strip_prefix('/').unwrap_or(text);
    let mut segments = SmallVec::new();
    // `str::split` searches for any pattern, and took as long as all the rest of a search.
    while let Some((segment, slash)) =
        rest.bytes().position(|byte| byte == b'/').and_then(|at| rest.split_at_checked(at))
    {
        segments.push(segment);
        rest = slash.strip_prefix('/').unwrap_or_default();
    }
    segments.push(rest);
    segments
}

/// What is wrong with the values, the last of which may be a tail.
fn mistyped(route: &Route, values: &[Cow<'_, str>], tail: bool) -> Option<String> {
    let last = route.parameters.len().saturating_sub(1);
    let pairs = route.parameters.iter().zip(values).enumerate();
    for (at, ((name, kind), value)) in pairs {
        let accepted =
            if tail && at == last { tail_accepted(route, kind, value) } else { kind.accepts(value) };
        if !accepted {
            return Some(format!("parameter `{name}` is not {kind}"));
        }
    }
    None
}

/// Whether a tail's segments are of its type. A URL in it has an empty one after its scheme, and may end in a slash.
fn tail_accepted(route: &Route, kind: &ParamType, value: &str) -> bool {
    let url = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    let segments = match url.filter(|_| route.leniencies.url_in_tail) {
        Some(url) => url.strip_suffix('/').unwrap_or(url),
        None => value,
    };
    segments.split('/').all(|segment| kind.accepts(segment))
}

/// The segments of a tail, decoded and joined. A segment that holds a slash of its own is no value:
/// it would spell the same text as two segments.
fn decode_tail(segments: &[&str]) -> Option<String> {
    let decoded: Vec<Cow<'_, str>> = segments.iter().map(|raw| decode_segment(raw)).collect();
    let one_spelling = decoded.iter().all(|segment| !segment.contains('/'));
    one_spelling.then(|| decoded.join("/"))
}

fn ambiguities(declared: &[Declared]) -> Vec<Ambiguity> {
    let mut groups: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
    for (at, row) in declared.iter().enumerate() {
        let key = (row.route.method.to_string(), row.pattern.shape());
        groups.entry(key).or_default().push(at);
    }
    let mut found = Vec::new();
    for rows in groups.values() {
        for (nth, one) in rows.iter().enumerate() {
            for other in rows.iter().skip(nth + 1) {
                if let (Some(a), Some(b)) = (declared.get(*one), declared.get(*other))
                    && overlap(&a.route, &b.route)
                {
                    found.push((*one, *other));
                }
            }
        }
    }
    found
}

fn overlap(a: &Route, b: &Route) -> bool {
    a.parameters.iter().zip(&*b.parameters).all(|((_, a), (_, b))| a.overlaps(b))
}
