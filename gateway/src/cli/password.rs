//! Reads a password without showing it: from a terminal without echo, or the first line of standard input.
//!
//! Never from an argument, which every user of the machine can list.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::Failure;

/// More bytes than a password may have; the bound keeps an endless input out of memory.
const LINE_BYTES_MAX: usize = 1024;

const END_OF_TEXT: u8 = 0x03; // Ctrl-C
const END_OF_INPUT: u8 = 0x04; // Ctrl-D
const KILL_LINE: u8 = 0x15; // Ctrl-U

/// A new password: typed twice at a terminal, once otherwise.
pub(super) fn read_new() -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return first_line(&mut stdin.lock());
    }
    let typed = prompt("Password: ")?;
    if prompt("Again:    ")? == typed {
        return Ok(typed);
    }
    Err(Failure::failed("the two passwords differ", "type it again"))
}

fn prompt(label: &str) -> Result<Zeroizing<String>, Failure> {
    io::stderr().write_all(label.as_bytes()).map_err(|error| unreadable(&error))?;
    let stdin = io::stdin();
    let silent = Silent::begin().map_err(|error| unreadable(&error))?;
    let typed = keys(&mut stdin.lock());
    drop(silent);
    io::stderr().write_all(b"\n").ok();
    typed
}

/// A terminal without echo, line editing or signals until dropped. Without signals, because Ctrl-C would end the
/// process and leave the terminal silent: it comes as a byte instead.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        // One byte at a time, as they come.
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.0).ok();
    }
}

/// What is typed until Enter.
fn keys(input: &mut impl Read) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX));
    loop {
        let mut key = [0_u8];
        input.read_exact(&mut key).map_err(|error| unreadable(&error))?;
        let [key] = key;
        match key {
            b'\r' | b'\n' => return text(&line),
            END_OF_TEXT | END_OF_INPUT => return Err(Failure::failed("nothing was changed", "run it again")),
            KILL_LINE => line.clear(),
            // One character back, not one byte.
            0x08 | 0x7f => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            _ if line.len() >= LINE_BYTES_MAX => return Err(too_long()),
            byte => line.push(byte),
        }
    }
}

fn first_line(input: &mut impl BufRead) -> Result<Zeroizing<String>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX + 2));
    let bound = u64::try_from(LINE_BYTES_MAX + 2).unwrap_or(u64::MAX);
    input.take(bound).read_until(b'\n', &mut line).map_err(|error| unreadable(&error))?;
    let ended = line.strip_suffix(b"\n").unwrap_or(&line);
    let ended = ended.strip_suffix(b"\r").unwrap_or(ended);
    if ended.len() > LINE_BYTES_MAX {
        return Err(too_long());
    }
    text(ended)
}

fn text(line: &[u8]) -> Result<Zeroizing<String>, Failure> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Err(Failure::failed("the password is not UTF-8 text", "set the terminal to UTF-8"));
    };
    if text.is_empty() {
        return Err(Failure::failed("no password was given", "type one, or send it on standard input"));
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn too_long() -> Failure {
    Failure::failed(format!("the password is longer than {LINE_BYTES_MAX} bytes"), "choose a shorter one")
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::failed(format!("the password cannot be read: {error}"), "send it on standard input")
}

#[cfg(test)]
mod tests {
    use super::{LINE_BYTES_MAX, first_line, keys};

    #[test]
    fn a_line_is_taken_whole_and_bounded() {
        let check = |input: &[u8], expected: Option<&str>| {
            let found = first_line(&mut &*input).ok();
            assert_eq!(found.as_deref().map(String::as_str), expected, "{input:?}");
        };
        check(b"correct horse\n", Some("correct horse"));
        check(b"correct horse\r\n", Some("correct horse"));
        check(b"correct horse", Some("correct horse"));
        check(b" spaces stay \n", Some(" spaces stay "));
        check(b"first\nsecond\n", Some("first"));
        check(b"", None);
        check(b"\n", None);
        check(&[0xff, b'\n'], None);
        check(&vec![b'a'; LINE_BYTES_MAX], Some("a".repeat(LINE_BYTES_MAX).as_str()));
        check(&vec![b'a'; LINE_BYTES_MAX + 1], None);
    }

    #[test]
    fn typing_can_be_corrected_and_given_up() {
        let check = |input: &[u8], expected: Option<&str>| {
            let found = keys(&mut &*input).ok();
            assert_eq!(found.as_deref().map(String::as_str), expected, "{input:?}");
        };
        check(b"abc\r", Some("abc"));
        check(b"abx\x7fc\n", Some("abc"));
        check("aé\x08b\n".as_bytes(), Some("ab"));
        check(b"wrong\x15right\n", Some("right"));
        check(b"\x7f\x7fa\n", Some("a"));
        check(b"abc\x03", None);
        check(b"abc\x04", None);
        check(b"abc", None);
        check(b"\n", None);
    }
}
