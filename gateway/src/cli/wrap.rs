//! Lines that fit a terminal.

/// Columns of a line.
const COLUMNS: usize = 80;

/// A text broken at spaces into lines of 80 columns, all but the first indented. A word that is longer stands alone.
pub(super) fn wrapped(text: &str, indent: usize) -> String {
    let begin = text.len() - text.trim_start().len();
    let mut lines = vec![" ".repeat(begin)];
    let mut is_fresh = true;
    for word in text.trim_start().split_inclusive(' ') {
        let bare = word.trim_end();
        let Some(line) = lines.last_mut() else { break };
        if !is_fresh && line.chars().count() + bare.chars().count() > COLUMNS {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            line.push_str(word);
        }
        is_fresh = false;
    }
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// A text of others, safe on a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_nothing() {
        let word = "x".repeat(100);
        for (text, lines) in [
            ("", 1),
            ("short", 1),
            (&"a ".repeat(40), 1),
            (&"ab ".repeat(60), 3),
            (&format!("a {word} b"), 3),
            (&"ä".repeat(80), 1),
        ] {
            let broken = wrapped(text, 4);
            assert_eq!(broken.lines().count().max(1), lines, "{broken}");
            let fits = |line: &str| line.chars().count() <= COLUMNS || line.trim() == word;
            assert!(broken.lines().all(fits), "{broken}");
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&broken), words(text));
        }
        assert_eq!(wrapped("  a b", 4), "  a b");
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\u{fffd}[31m\u{fffd}b");
    }
}
