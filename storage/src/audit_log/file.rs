//! The log's files: the live one, and those of earlier days.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use engine::time::UnixMillis;
use jiff::ToSpan;
use jiff::civil::Date;

use super::AuditOpenError;
use super::events::rfc3339;
use super::writer::Sink;
use crate::files::{private_dir, private_file};

/// The live file's name.
const LIVE: &str = "audit.jsonl";

/// A record begins with its time: this, then `YYYY-MM-DD`.
const HEAD: &str = "{\"time\":\"";

/// The live file, and the directory of the others.
pub(super) struct LogFile {
    dir: PathBuf,
    file: File,
    /// Bytes that are known to be on disk. What lies past them is rewritten when a write failed.
    synced: u64,
    keep_days: u32,
}

/// A log file that was opened.
pub(super) struct Opened {
    pub(super) file: LogFile,
    /// The day of its records.
    pub(super) day: String,
    /// Whether an incomplete last line had to be ended.
    pub(super) mended: bool,
}

impl LogFile {
    pub(super) fn open(dir: &Path, keep_days: u32, now: UnixMillis) -> Result<Opened, AuditOpenError> {
        private_dir(dir).map_err(AuditOpenError::Private)?;
        let file = live(dir).map_err(AuditOpenError::Private)?;
        let mut log = Self { dir: dir.to_owned(), file, synced: 0, keep_days };
        let mended = log.mend().map_err(AuditOpenError::Io)?;
        let today = day(&rfc3339(now)).to_owned();
        let found = log.day().map_err(AuditOpenError::Io)?.unwrap_or_else(|| today.clone());
        if found < today {
            log.rotate(&found, &today).map_err(AuditOpenError::Io)?;
        }
        Ok(Opened { file: log, day: found.max(today), mended })
    }

    /// Ends the last line where a crash left it without its end.
    fn mend(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        let torn = length > 0 && {
            let mut last = [0];
            self.file.seek(SeekFrom::Start(length - 1))?;
            self.file.read_exact(&mut last)?;
            last != *b"\n"
        };
        if torn {
            self.file.write_all(b"\n")?;
        }
        self.sync()?;
        Ok(torn)
    }

    /// The day of the first record; where that cannot be read, of the last write; none when the file is empty.
    fn day(&mut self) -> io::Result<Option<String>> {
        let mut head = String::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take((HEAD.len() + 10) as u64).read_to_string(&mut head).or_else(|error| {
            // Bytes that are no text have no day in them; every other error is one.
            if error.kind() == io::ErrorKind::InvalidData { Ok(0) } else { Err(error) }
        })?;
        if let Some(found) = head.strip_prefix(HEAD).filter(|found| found.parse::<Date>().is_ok()) {
            return Ok(Some(found.to_owned()));
        }
        let metadata = self.file.metadata()?;
        let written = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let written = rfc3339(UnixMillis(u64::try_from(written).unwrap_or_default()));
        Ok((metadata.len() > 0).then(|| day(&written).to_owned()))
    }

    /// Removes the files of days that are too long ago.
    fn expire(&self, today: &str) -> io::Result<()> {
        let Ok(today) = today.parse::<Date>() else { return Ok(()) };
        let oldest = today.saturating_sub(i64::from(self.keep_days).days());
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if rotated_day(&entry.file_name().to_string_lossy()).is_some_and(|day| day < oldest) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A name for the records of `day` that is not taken: a clock that went back must not overwrite any.
    fn free_name(&self, day: &str) -> PathBuf {
        let mut names = (0..u32::MAX).map(|number| match number {
            0 => self.dir.join(format!("audit-{day}.jsonl")),
            number => self.dir.join(format!("audit-{day}.{number}.jsonl")),
        });
        let free = names.find(|path| fs::symlink_metadata(path).is_err());
        free.unwrap_or_else(|| self.dir.join(format!("audit-{day}.jsonl")))
    }
}

impl Sink for LogFile {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.file.write_all(lines)
    }

    fn renew(&mut self) -> io::Result<bool> {
        let held = self.file.metadata()?;
        let there = match fs::symlink_metadata(self.dir.join(LIVE)) {
            Ok(there) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if there {
            return Ok(false);
        }
        self.rewind()?;
        self.file = live(&self.dir).map_err(io::Error::other)?;
        // Whatever stands there already was put there by others, and is kept.
        self.synced = self.file.metadata()?.len();
        Ok(true)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced = self.file.metadata()?.len();
        Ok(())
    }

    fn rewind(&mut self) -> io::Result<()> {
        // Never longer: a file that somebody emptied would be filled up with zeros.
        self.file.set_len(self.synced.min(self.file.metadata()?.len()))
    }

    fn rotate(&mut self, finished: &str, begun: &str) -> io::Result<()> {
        let path = self.dir.join(LIVE);
        // It is missing when an earlier try renamed it and then failed.
        if fs::symlink_metadata(&path).is_ok() {
            fs::rename(&path, self.free_name(finished))?;
        }
        self.file = live(&self.dir).map_err(io::Error::other)?;
        self.synced = 0;
        // From here on nothing may fail, or the new file would be rotated once more.
        if let Err(error) =
            File::open(&self.dir).and_then(|dir| dir.sync_all()).and_then(|()| self.expire(begun))
        {
            tracing::warn!(%error, "audit files of earlier days could not be tidied up");
        }
        Ok(())
    }
}

/// The day of a record's time.
pub(super) fn day(time: &str) -> &str {
    time.get(..10).unwrap_or_default()
}

fn live(dir: &Path) -> Result<File, crate::PrivateError> {
    private_file(&dir.join(LIVE), OpenOptions::new().read(true).append(true).create(true))
}

fn rotated_day(name: &str) -> Option<Date> {
    let rest = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    rest.get(..10)?.parse().ok()
}
