//! Route files: TOML with places, every fault at once.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use smol_str::SmolStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::cost::{self, COST_DEFAULT};
use super::pattern::Pattern;
use super::raw::{Head, LegacyBearer, PageName, Row, Scheme, TypeName, leniencies};
use super::{ASSURANCE_MAX, MAX_AGE_S_MAX, MAX_AGE_S_MIN};
use super::{Accept, CLASSES, Hint, PARAMETERS_MAX, ParamType, Route, StepUp, Target};
use crate::audit::RouteNames;
use crate::bundle::{BundleFault, Place};
use crate::query::is_identity_name;

/// Seconds of the longest deadline of a route: a day, as a session lasts at most where nothing else is said.
const DEADLINE_S_MAX: u32 = 86_400;

/// A row with where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) route: Route,
    pub(super) pattern: Pattern,
    pub(crate) file: Arc<str>,
    pub(crate) line: usize,
}

/// Reads one route file: the rows that hold, and every fault of those that do not.
///
/// `has_limit` says whether the bundle gives a class of its own a limit: then a row may name it.
pub(crate) fn read_file(
    file: &str,
    text: &str,
    has_limit: &dyn Fn(&str) -> bool,
    faults: &mut Vec<BundleFault>,
) -> Vec<Declared> {
    let place = Place::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            faults.push(toml_fault(&place, &error, 0));
        }
        return Vec::new();
    }
    let span = document.span();
    let mut table = document.into_inner();
    let rows = match table.remove("routes") {
        Some(rows) => rows,
        None => {
            faults.push(place.fault(
                None,
                "the file has no `routes`",
                "add `routes = [{ on = \"GET /…\", action = \"…\" }]`",
            ));
            return Vec::new();
        }
    };
    let head = Head::deserialize(ValueDeserializer::from(Spanned::new(span, DeValue::Table(table))));
    let head = match head {
        Ok(head) => head,
        Err(error) => {
            faults.push(toml_fault(&place, &error, 0));
            return Vec::new();
        }
    };
    let rows_at = rows.span().start;
    let DeValue::Array(rows) = rows.into_inner() else {
        faults.push(place.fault(Some(rows_at), "`routes` is not an array", "write `routes = [ … ]`"));
        return Vec::new();
    };
    let mut reader = Reader { place, head: &head, used: BTreeSet::new(), has_limit, faults };
    reader.head();
    let declared = rows.into_iter().filter_map(|row| reader.row(row)).collect();
    reader.unused();
    declared
}

struct Reader<'a> {
    place: Place<'a>,
    head: &'a Head,
    used: BTreeSet<String>,
    has_limit: &'a dyn Fn(&str) -> bool,
    faults: &'a mut Vec<BundleFault>,
}

impl Reader<'_> {
    fn fault(&mut self, at: usize, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(self.place.fault(Some(at), message, remedy));
    }

    fn head(&mut self) {
        let module = &self.head.module;
        if !is_name(module.get_ref()) {
            let message = format!("module `{}` is not of the form a-z 0-9 _ - .", module.get_ref());
            self.fault(module.span().start, message, "rename it");
        }
        let pages = self.head.pages.as_ref().is_some_and(|pages| *pages.get_ref());
        match (&self.head.upstream, pages) {
            (Some(upstream), true) => {
                self.fault(
                    upstream.span().start,
                    "the file names an upstream and pages",
                    "keep one of `upstream` and `pages`",
                );
            }
            (None, false) => {
                self.fault(0, "the file names no target", "add `upstream = \"…\"`");
            }
            (Some(_), false) | (None, true) => {}
        }
        if let Some(class) = &self.head.class {
            self.class(class.span().start, class.get_ref());
        }
    }

    fn class(&mut self, at: usize, class: &str) {
        if !CLASSES.contains(&class) && !(self.has_limit)(class) {
            self.fault(
                at,
                format!("limit class `{class}` does not exist"),
                format!("use one of {}, or give it a limit in limits.toml", CLASSES.join(", ")),
            );
        }
    }

    fn row(&mut self, row: Spanned<DeValue<'_>>) -> Option<Declared> {
        let at = row.span().start;
        let row = match Row::deserialize(ValueDeserializer::from(row)) {
            Ok(row) => row,
            Err(error) => {
                self.faults.push(toml_fault(&self.place, &error, at));
                return None;
            }
        };
        let before = self.faults.len();
        let (method, pattern) = self.on(at, &row.on)?;
        let parameters = self.parameters(at, &row, &pattern);
        let accept = self.accept(at, &row);
        let step_up = self.step_up(at, &row, accept);
        let class = row.class.as_deref().or(self.head.class.as_ref().map(|class| class.get_ref().as_str()));
        let class = class.unwrap_or("standard").to_owned();
        self.class(at, &class);
        let cost = row.cost.unwrap_or(COST_DEFAULT);
        if let Some((message, remedy)) = cost::fault(cost) {
            self.fault(at, message, remedy);
        }
        let target = self.target(at, row.page);
        self.upgrade_and_action(at, &row, &method, accept);
        self.lists(at, &row);
        if self.faults.len() > before {
            return None;
        }
        let path = row.on.split_once(' ').map_or("", |(_, path)| path).to_owned();
        let (name, action): (Arc<str>, Arc<str>) = (row.on.into(), row.action.into());
        let resource = format!("Module::\"{}\"", self.head.module.get_ref()).into();
        let recorded = RouteNames::new(Arc::clone(&name), Arc::clone(&action), resource);
        let route = Route {
            name,
            method,
            pattern: path,
            parameters: parameters.into(),
            module: self.head.module.get_ref().as_str().into(),
            recorded: recorded.into(),
            hint: Hint::default(),
            target: target?,
            action,
            accept,
            step_up,
            class: class.into(),
            cost,
            conceal: row.conceal,
            audited: row.audited,
            websocket: row.websocket,
            body_bytes_max: row.body_bytes_max,
            deadline_s: row.deadline_s,
            leniencies: leniencies(&row.leniencies),
            legacy_bearer_drop: self.head.legacy_bearer == Some(LegacyBearer::Drop),
            sandbox: row.sandbox,
            service_worker: row.service_worker,
            client_sets: row.client_sets,
            sets: row.sets.into_iter().collect(),
            named: row.named,
            names: row.names,
            query: row.query.iter().map(|(name, kind)| (name.as_str().into(), kind.resolve())).collect(),
            cookies_up: row.cookies_up,
            cookies_down: row.cookies_down,
            headers_allowed: row.headers_allowed,
            destinations: row.destinations,
            read_only: false,
        };
        Some(Declared { route, pattern, file: self.place.file().into(), line: self.place.line(at) })
    }

    fn upgrade_and_action(&mut self, at: usize, row: &Row, method: &Method, accept: Accept) {
        if row.websocket && (*method != Method::GET || accept.anonymous) {
            let remedy = "drop `websocket`, or `anonymous`";
            self.fault(at, "a WebSocket route is a GET and is not anonymous", remedy);
        }
        if !is_name(&row.action) {
            self.fault(at, format!("action `{}` is not of the form a-z 0-9 _ - .", row.action), "rename it");
        }
    }

    fn on(&mut self, at: usize, on: &str) -> Option<(Method, Pattern)> {
        let Some((method, pattern)) = on.split_once(' ') else {
            self.fault(
                at,
                format!("`{on}` is not a method, a space and a pattern"),
                "write it as `GET /api/docs/:id`",
            );
            return None;
        };
        let method = match method {
            "GET" => Method::GET,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            "OPTIONS" => Method::OPTIONS,
            "HEAD" => {
                self.fault(at, "a row for HEAD is never needed", "write GET: it answers HEAD too");
                return None;
            }
            _ => {
                self.fault(
                    at,
                    format!("method `{method}` cannot be routed"),
                    "use GET, POST, PUT, PATCH, DELETE or OPTIONS",
                );
                return None;
            }
        };
        match Pattern::parse(pattern) {
            Ok(pattern) => Some((method, pattern)),
            Err(why) => {
                self.fault(
                    at,
                    format!("pattern `{pattern}`: {why}"),
                    "see `:name` and `*name` in policies/README.md",
                );
                None
            }
        }
    }

    fn parameters(&mut self, at: usize, row: &Row, pattern: &Pattern) -> Vec<(SmolStr, ParamType)> {
        let mut typed = Vec::new();
        let count = pattern.names().count();
        if count > PARAMETERS_MAX {
            self.fault(at, format!("{count} parameters, at most {PARAMETERS_MAX}"), "split the route");
        }
        for (nth, name) in pattern.names().enumerate() {
            let own = row.parameters.get(name.as_ref());
            let shared = self.head.parameters.get(name.as_ref()).map(Spanned::get_ref);
            if own.is_none() {
                self.used.insert(name.to_string());
            }
            let Some(kind) = own.or(shared).map(TypeName::resolve) else {
                self.fault(
                    at,
                    format!("parameter `{name}` has no type"),
                    format!("add `{name} = \"uuid\"` (or int, slug, text) under [parameters]"),
                );
                continue;
            };
            if pattern.has_tail() && nth + 1 == count && !matches!(kind, ParamType::Text | ParamType::Slug) {
                self.fault(
                    at,
                    format!("tail `{name}` is {kind}"),
                    "a tail is text or slug: the type of each of its segments",
                );
            }
            typed.push((SmolStr::new(name), kind));
        }
        if leniencies(&row.leniencies).url_in_tail && !pattern.has_tail() {
            self.fault(
                at,
                "url_in_tail without a tail",
                "let the pattern end in `/*destination`, or remove it",
            );
        }
        self.names(at, row, &typed);
        self.enums(
            at,
            typed.iter().map(|(_, kind)| kind.clone()).chain(row.query.values().map(TypeName::resolve)),
        );
        typed
    }

    fn names(&mut self, at: usize, row: &Row, typed: &[(SmolStr, ParamType)]) {
        for name in row.parameters.keys() {
            if !typed.iter().any(|(known, _)| known == name) {
                self.fault(
                    at,
                    format!("parameter `{name}` is typed but not in the pattern"),
                    "remove it, or correct its name",
                );
            }
        }
        for name in row.query.keys() {
            if typed.iter().any(|(known, _)| known == name) {
                self.fault(
                    at,
                    format!("`{name}` is a path and a query parameter"),
                    "policy would see one of them: rename the path parameter",
                );
            }
        }
    }

    fn enums(&mut self, at: usize, kinds: impl Iterator<Item = ParamType>) {
        for kind in kinds {
            let ParamType::Enum(values) = kind else { continue };
            let distinct: BTreeSet<&String> = values.iter().collect();
            if values.is_empty() || distinct.len() < values.len() || values.iter().any(String::is_empty) {
                self.fault(at, "a list of values is empty or repeats itself", "list each value once");
            }
        }
    }

    fn accept(&mut self, at: usize, row: &Row) -> Accept {
        let mut accept = Accept::default();
        for scheme in row.accept.as_ref().or(self.head.accept.as_ref()).into_iter().flatten() {
            match scheme {
                Scheme::Anonymous => accept.anonymous = true,
                Scheme::Session => accept.session = true,
                Scheme::ApiKey => accept.api_key = true,
                Scheme::AccessToken => accept.access_token = true,
            }
        }
        if accept == Accept::default() {
            self.fault(
                at,
                "the route accepts no credential",
                "add `accept = [\"session\"]` to the row or the file",
            );
        }
        accept
    }

    fn step_up(&mut self, at: usize, row: &Row, accept: Accept) -> Option<StepUp> {
        let asked = row.step_up?;
        let before = self.faults.len();
        let assurance = asked.assurance.unwrap_or(1);
        if !(1..=ASSURANCE_MAX).contains(&assurance) {
            let message = format!("`step_up` asks for assurance {assurance}, which nobody can prove");
            self.fault(at, message, format!("write 1 to {ASSURANCE_MAX}"));
        }
        if asked.max_age_s.is_some_and(|seconds| !(MAX_AGE_S_MIN..=MAX_AGE_S_MAX).contains(&seconds)) {
            let message = format!("a proof is taken for {MAX_AGE_S_MIN} to {MAX_AGE_S_MAX} seconds");
            self.fault(at, message, "correct `max_age_s`, or leave it out");
        }
        if asked.assurance.is_none() && asked.max_age_s.is_none() {
            let remedy = "write `assurance = 2`, `max_age_s = 300`, or both";
            self.fault(at, "`step_up` asks for nothing", remedy);
        }
        if accept.anonymous {
            let remedy = "drop `step_up`, or `anonymous`";
            self.fault(at, "whoever is nobody cannot prove it any better", remedy);
        }
        if row.conceal {
            // A way to prove more would tell that there is something; without one nobody could ever pass.
            self.fault(at, "a concealed route cannot ask for a step-up", "drop `step_up`, or `conceal`");
        }
        if asked.services && !accept.api_key {
            self.fault(at, "`services` pass a route that takes no API key", "drop `services`");
        }
        let services = asked.services;
        (self.faults.len() == before).then_some(StepUp { assurance, max_age_s: asked.max_age_s, services })
    }

    fn target(&mut self, at: usize, page: Option<PageName>) -> Option<Target> {
        let upstream = self.head.upstream.as_ref().map(|name| name.get_ref().as_str().into());
        match (page, upstream) {
            (None, Some(upstream)) => Some(Target::Upstream(upstream)),
            (Some(page), None) => Some(Target::Page(page.resolve())),
            (None, None) => {
                self.fault(at, "the row names no page", "add `page = \"…\"`, or `upstream` to the file");
                None
            }
            (Some(_), Some(_)) => {
                self.fault(
                    at,
                    "a page stands in a file with an upstream",
                    "move it to the file with `pages = true`",
                );
                None
            }
        }
    }

    fn lists(&mut self, at: usize, row: &Row) {
        let token = |text: &String| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let names = [&row.client_sets, &row.cookies_up, &row.cookies_down, &row.headers_allowed];
        if let Some(name) = names.into_iter().flatten().chain(row.query.keys()).find(|name| !token(name)) {
            self.fault(
                at,
                format!("name `{name}` has a character other than A-Z a-z 0-9 - _ ."),
                "correct it",
            );
        }
        if let Some(name) = row.client_sets.iter().find(|name| !is_identity_name(name)) {
            self.fault(
                at,
                format!("`{name}` in client_sets is no identity name"),
                "remove it: only identity names need leave",
            );
        }
        for name in row.named.iter().chain(row.sets.keys()) {
            if !is_identity_name(name) || row.client_sets.contains(name) {
                self.fault(
                    at,
                    format!("`{name}` in sets or named is no identity name, or in client_sets as well"),
                    "say one thing of a name: the client sets it, we do, or an answer has named it",
                );
            }
        }
        // Our own cookies never leave us: the upstream could replay them, or set them for its users.
        let ours = |name: &&String| name.to_ascii_lowercase().contains("cedargate");
        if let Some(name) = row.cookies_up.iter().chain(&row.cookies_down).find(ours) {
            self.fault(
                at,
                format!("cookie `{name}` is one of the gateway's own"),
                "remove it: it is never shared with an upstream",
            );
        }
        if let Some(origin) = row.destinations.iter().find(|origin| !is_origin(origin)) {
            self.fault(
                at,
                format!("destination `{origin}` is not an origin"),
                "write it as `https://example.org`, without a path",
            );
        }
        if row.deadline_s.is_some_and(|seconds| seconds == 0 || seconds > DEADLINE_S_MAX) {
            let message = format!("a deadline is 1 to {DEADLINE_S_MAX} seconds");
            self.fault(at, message, "leave `deadline_s` out, or give whole seconds");
        }
        if row.deadline_s.is_some() && row.websocket {
            let remedy = "leave `deadline_s` out: a WebSocket ends with its session";
            self.fault(at, "a WebSocket has no deadline", remedy);
        }
        if row.body_bytes_max == Some(0) {
            self.fault(
                at,
                "a body of 0 bytes at most",
                "leave `body_bytes_max` out, or give a bound in bytes",
            );
        }
    }

    /// A type that no row uses is most likely a misspelt one.
    fn unused(&mut self) {
        let head = self.head;
        for (name, kind) in &head.parameters {
            if !self.used.contains(name) {
                self.fault(
                    kind.span().start,
                    format!("no route takes its type of `{name}` from here"),
                    "remove it, or correct its name",
                );
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte);
    host.is_some_and(|host| !host.is_empty() && host.bytes().all(allowed))
}

fn toml_fault(place: &Place<'_>, error: &toml::de::Error, at: usize) -> BundleFault {
    let at = error.span().map_or(at, |span| span.start);
    place.fault(Some(at), error.message(), "see the row keys in policies/README.md")
}
