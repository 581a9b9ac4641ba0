//! Path patterns: `/api/docs/:id`, `/static/*path`.

use std::sync::Arc;

use crate::path::SEGMENTS_MAX;

/// One segment of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Exactly this text, in canonical spelling.
    Static(String),
    /// One segment with a value.
    Parameter(Arc<str>),
    /// One or more segments up to the end.
    Tail(Arc<str>),
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub(super) pieces: Vec<Piece>,
}

impl Pattern {
    /// Parses a pattern, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("a pattern begins with `/`".to_owned());
        };
        let segments: Vec<&str> = rest.split('/').collect();
        if segments.len() > SEGMENTS_MAX {
            return Err(format!("it has {} segments, and a path has {SEGMENTS_MAX} at most", segments.len()));
        }
        let last = segments.len() - 1;
        let mut pieces = Vec::with_capacity(segments.len());
        for (at, segment) in segments.iter().enumerate() {
            pieces.push(piece(segment, at == last)?);
        }
        let pattern = Self { pieces };
        let mut names: Vec<&str> = pattern.names().map(AsRef::as_ref).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err("two parameters have the same name".to_owned());
        }
        Ok(pattern)
    }

    /// Names of parameters and tail, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Static(_) => None,
            Piece::Parameter(name) | Piece::Tail(name) => Some(name),
        })
    }

    /// Whether it ends in a tail.
    pub(super) fn has_tail(&self) -> bool {
        matches!(self.pieces.last(), Some(Piece::Tail(_)))
    }

    /// The pattern without its parameters' names: what two rows share that match the same paths.
    pub(super) fn shape(&self) -> String {
        let mut shape = String::new();
        for piece in &self.pieces {
            shape.push('/');
            match piece {
                Piece::Static(text) => shape.push_str(text),
                Piece::Parameter(_) => shape.push(':'),
                Piece::Tail(_) => shape.push('*'),
            }
        }
        shape
    }
}

fn piece(segment: &str, is_last: bool) -> Result<Piece, String> {
    if let Some(name) = segment.strip_prefix(':') {
        return parameter_name(name).map(Piece::Parameter);
    }
    if let Some(name) = segment.strip_prefix('*') {
        if !is_last {
            return Err(format!("`*{name}` is not the last segment"));
        }
        return parameter_name(name).map(Piece::Tail);
    }
    if segment.is_empty() && !is_last {
        return Err("a segment is empty".to_owned());
    }
    if segment == "." || segment == ".." {
        return Err("dot segments never reach a route".to_owned());
    }
    // Only what canonical paths leave unescaped, so that text comparison is the whole of matching.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if !segment.bytes().all(plain) {
        return Err(format!("segment `{segment}` has a character other than A-Z a-z 0-9 - . _ ~"));
    }
    Ok(Piece::Static(segment.to_owned()))
}

fn parameter_name(name: &str) -> Result<Arc<str>, String> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let rest = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if first && rest {
        Ok(name.into())
    } else {
        Err(format!("parameter name `{name}` is not of the form a-z, then a-z 0-9 _"))
    }
}
