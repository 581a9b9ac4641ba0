//! Reads a secret from a file that nobody else can read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use zeroize::Zeroizing;

/// More than any secret of ours; a bound, because a reference may name any file.
const SECRET_FILE_BYTES_MAX: u64 = 4096;

/// Why a file is not taken as a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretFileError {
    #[error("it cannot be opened")]
    Open(#[source] std::io::Error),
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it belongs to another user")]
    Foreign,
    #[error("others than its owner have access to it (mode {0:04o})")]
    Exposed(u32),
    #[error("it is larger than {SECRET_FILE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is not UTF-8 text")]
    NotText,
}

/// The file's text without its last line break.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, SecretFileError> {
    // Not blocking: a FIFO would hold the start for ever. What is checked is what was opened, so that no swap of the
    // path gets between. Symlinks are followed, because orchestrators mount secrets as such; the target is checked.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(
        rustix::fs::open(path, flags, Mode::empty()).map_err(|error| SecretFileError::Open(error.into()))?,
    );
    let metadata = file.metadata().map_err(SecretFileError::Read)?;
    if !metadata.is_file() {
        return Err(SecretFileError::NotRegular);
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(SecretFileError::Foreign);
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(SecretFileError::Exposed(metadata.mode() & 0o7777));
    }
    // The capacity is taken at once: a buffer that grew would leave copies of the secret behind.
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(SECRET_FILE_BYTES_MAX + 1).unwrap_or_default()));
    file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(SecretFileError::Read)?;
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(SecretFileError::TooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretFileError::NotText)?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::read;

    #[test]
    fn only_a_private_regular_file_is_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let put = |name: &str, mode: u32, bytes: &[u8]| {
            std::fs::write(at(name), bytes).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        put("good", 0o600, b"the text\n");
        put("read_only", 0o400, b"the text\r\n");
        put("no_break", 0o600, b"the text");
        put("group", 0o640, b"the text");
        put("world", 0o604, b"the text");
        put("writable", 0o620, b"the text");
        put("binary", 0o600, b"\xff\xfe");
        put("large", 0o600, &[b'a'; 4097]);
        put("largest", 0o600, &[b'a'; 4096]);
        symlink(at("good"), at("link")).unwrap();
        symlink(at("group"), at("open_link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();

        let check = |name: &str, expected: Result<&str, &str>| {
            let found = read(&at(name)).map(|text| text.to_string()).map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{name}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{name}: {found}"),
                (found, _) => panic!("{name}: {found:?}"),
            }
        };
        check("good", Ok("the text"));
        check("read_only", Ok("the text"));
        check("no_break", Ok("the text"));
        check("link", Ok("the text"));
        check("largest", Ok("a".repeat(4096).as_str()));
        check("open_link", Err("mode 0640"));
        check("group", Err("mode 0640"));
        check("world", Err("mode 0604"));
        check("writable", Err("mode 0620"));
        check("binary", Err("not UTF-8"));
        check("large", Err("larger"));
        check("fifo", Err("not a regular file"));
        check(".", Err("not a regular file"));
        check("absent", Err("cannot be opened"));
    }
}
