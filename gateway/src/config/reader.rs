//! Walks the TOML tree and the environment, collects every fault, and knows which keys exist.
//!
//! Serde stops at the first fault, so the tree is walked by hand: a key that no reader took is unknown.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::environment::{Environment, Variable};
use super::fault::{Fault, Place};

/// What reading has found so far.
pub(super) struct Reader<'e> {
    /// The file's name in faults, and what relative paths start from.
    pub(super) file: PathBuf,
    environment: &'e Environment,
    /// Offsets at which lines begin.
    line_starts: Vec<usize>,
    pub(super) faults: Vec<Fault>,
    pub(super) notices: Vec<String>,
}

/// A table of the file, or one that is absent, with the keys that were asked for.
pub(super) struct Section<'d> {
    path: String,
    table: Option<&'d DeTable<'d>>,
    taken: Vec<&'static str>,
}

/// A key and its value, each with its span.
pub(super) type Entry<'d> = (&'d Spanned<DeString<'d>>, &'d Spanned<DeValue<'d>>);

/// A value as somebody wrote it.
pub(super) struct Written<'d> {
    /// How a fault names it: its key with the tables above it; a variable is named by its place.
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) value: Given<'d>,
}

/// Where the value comes from decides its form: TOML has types, the environment has text.
#[derive(Clone, Copy)]
pub(super) enum Given<'d> {
    Toml(&'d DeValue<'d>),
    Text(&'d str),
}

impl<'e> Reader<'e> {
    pub(super) fn new(file: &Path, text: &str, environment: &'e Environment) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(breaks.map(|(at, _)| at.saturating_add(1))).collect();
        Self { file: file.to_owned(), environment, line_starts, faults: Vec::new(), notices: Vec::new() }
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.line_starts.partition_point(|start| *start <= span.start)
    }

    pub(super) fn in_file(&self, line: Option<usize>) -> Place {
        Place::File { path: self.file.clone(), line }
    }

    pub(super) fn fault(&mut self, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.faults.push(Fault { place, message: message.into(), remedy: remedy.into() });
    }

    /// The whole file as a section.
    pub(super) fn root<'d>(&self, document: &'d DeTable<'d>) -> Section<'d> {
        Section { path: String::new(), table: Some(document), taken: Vec::new() }
    }

    /// The table under a key; a value of another type is a fault.
    pub(super) fn section<'d>(&mut self, parent: &mut Section<'d>, key: &'static str) -> Section<'d> {
        let path = parent.dotted(key);
        let Some((line, value)) = parent.take(key, self) else {
            return Section { path, table: None, taken: Vec::new() };
        };
        self.table(path, line, value)
    }

    /// A table that stands as a value: in a list, or under a name that the file chooses.
    pub(super) fn table<'d>(&mut self, path: String, line: usize, value: &'d DeValue<'d>) -> Section<'d> {
        let table = value.as_table();
        if table.is_none() {
            self.wrong_type(&format!("`{path}`"), self.in_file(Some(line)), value, "a table");
        }
        Section { path, table, taken: Vec::new() }
    }

    /// The value of a key, or of the variable that overrides it.
    pub(super) fn pick<'d, 'w>(
        &mut self,
        section: &mut Section<'d>,
        key: &'static str,
        variable: Option<&'static str>,
    ) -> Option<Written<'w>>
    where
        'd: 'w,
        'e: 'w,
    {
        let name = format!("`{}`", section.dotted(key));
        let filed = section.take(key, self).map(|(line, value)| Written {
            name,
            place: self.in_file(Some(line)),
            value: Given::Toml(value),
        });
        let set = variable.and_then(|variable| self.variable(variable));
        if let (Some(filed), Some(_), Some(variable)) = (&filed, &set, variable) {
            self.notices.push(format!("{variable} overrides {} of the configuration file", filed.name));
        }
        set.or(filed)
    }

    /// A variable that has no key in the file.
    pub(super) fn variable(&mut self, name: &'static str) -> Option<Written<'e>> {
        let place = Place::Variable(name.to_owned());
        match self.environment.variable(name)? {
            Variable::Text(text) => Some(Written { name: "it".to_owned(), place, value: Given::Text(text) }),
            Variable::NotUnicode => {
                self.fault(place, "it is set to bytes that are not UTF-8", "write it in UTF-8, or unset it");
                None
            }
        }
    }

    /// Whether a variable holds anything; bytes that are no UTF-8 are something.
    pub(super) fn is_set_to_something(&self, name: &str) -> bool {
        match self.environment.variable(name) {
            Some(Variable::Text(text)) => !text.is_empty(),
            Some(Variable::NotUnicode) => true,
            None => false,
        }
    }

    pub(super) fn variable_names(&self) -> impl Iterator<Item = &'e str> {
        self.environment.names()
    }

    /// Reports what nobody asked for.
    pub(super) fn finish(&mut self, section: &Section<'_>) {
        for (key, _) in section.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if section.taken.contains(&name) {
                continue;
            }
            let place = self.in_file(Some(self.line(&key.span())));
            let remedy = match nearest(name, section.taken.iter().copied()) {
                Some(near) => format!("did you mean `{}`?", section.dotted(near)),
                None if section.taken.is_empty() => "remove it".to_owned(),
                None => format!("remove it; known here: {}", section.known()),
            };
            self.fault(place, format!("unknown key `{}`", section.dotted(&printable(name))), remedy);
        }
    }

    pub(super) fn wrong_type(&mut self, name: &str, place: Place, value: &DeValue<'_>, wanted: &str) {
        let message = format!("{name} is {}, not {wanted}", with_article(value.type_str()));
        self.fault(place, message, format!("write {wanted}"));
    }
}

impl<'d> Section<'d> {
    /// A table that the file does not have.
    pub(super) fn absent(path: &str) -> Self {
        Self { path: path.to_owned(), table: None, taken: Vec::new() }
    }

    /// Whether the file has this table.
    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Its name in faults.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The keys that the file chooses itself, in the order of the file.
    pub(super) fn entries(&self) -> Vec<Entry<'d>> {
        let mut entries: Vec<_> = self.table.into_iter().flatten().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        entries
    }

    /// A key below this table as faults name it.
    pub(super) fn dotted(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn take(
        &mut self,
        key: &'static str,
        reader: &Reader<'_>,
    ) -> Option<(usize, &'d DeValue<'d>)> {
        self.taken.push(key);
        let (name, value) = self.entry(key)?;
        Some((reader.line(&name.span()), value.get_ref()))
    }

    /// A value without taking its key.
    pub(super) fn peek(&self, key: &str) -> Option<&'d DeValue<'d>> {
        self.entry(key).map(|(_, value)| value.get_ref())
    }

    /// The line of a key.
    pub(super) fn line_of(&self, key: &str, reader: &Reader<'_>) -> Option<usize> {
        self.entry(key).map(|(name, _)| reader.line(&name.span()))
    }

    fn entry(&self, key: &str) -> Option<Entry<'d>> {
        self.table?.iter().find(|(name, _)| name.get_ref().as_ref() == key)
    }

    fn known(&self) -> String {
        let mut known: Vec<String> = self.taken.iter().map(|key| format!("`{key}`")).collect();
        known.sort();
        known.join(", ")
    }
}

/// A name from outside, safe on a terminal and short.
pub(super) fn printable(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let mut shown: String =
        text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// The known name that a person most likely meant, if one is near enough.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let bound = name.chars().count().div_ceil(3).min(3);
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance in characters, over at most 64 of them.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.chars().take(64).enumerate() {
        let mut diagonal = index;
        let mut previous = index.saturating_add(1);
        let mut next = vec![previous];
        for (to, above) in right.iter().zip(row.iter().skip(1)) {
            let changed = diagonal.saturating_add(usize::from(from != *to));
            previous = changed.min(above.saturating_add(1)).min(previous.saturating_add(1));
            diagonal = *above;
            next.push(previous);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        let known = ["listen", "admin_listen", "data_dir", "trusted_proxies"];
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        };
        check("lisen", Some("listen"));
        check("Listen", Some("listen"));
        check("listen_", Some("listen"));
        check("datadir", Some("data_dir"));
        check("trusted_proxys", Some("trusted_proxies"));
        check("x", None);
        check("certificate", None);
        check("", None);
    }
}
