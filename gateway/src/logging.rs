//! The program's own log: stderr and daily files, JSON or lines for people.
//!
//! It tells what the program does. What was asked and decided stands in the audit log.

use std::any::Any;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{InitError, RollingFileAppender, Rotation};
use tracing_log::log;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, Registry, filter::Targets, fmt};

use crate::config::settings::{Log, LogFormat, LogLevel};

/// Files kept, one a day.
pub const LOG_FILES_KEPT: usize = 30;
/// Lines that wait for a slow disk or terminal; past it, whoever logs waits, because a lost line misleads. Few enough
/// that the rest is written within the second that the guard grants at the end.
const LINES_WAITING_MAX: usize = 4096;
/// Crates whose DEBUG and TRACE are ours to vouch for. Others' stop at INFO: pingora's dump headers, cookies included.
const OURS: [&str; 4] = ["cedargate", "engine", "gateway", "storage"];

/// Keeps the log going. Lines that still wait are written when it is dropped, so it is dropped last.
#[must_use = "lines that still wait are written when this is dropped"]
#[derive(Debug)]
pub struct LogGuard {
    _workers: [WorkerGuard; 2],
}

/// Why the log cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The directory cannot be made or looked at.
    #[error("the log directory `{}` cannot be used", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others can read the log.
    #[error("the log directory `{}` is open to others than its owner (mode {mode:04o}); chmod 700 it", path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The first file cannot be made.
    #[error("no log file can be made in `{}`", path.display())]
    File {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: InitError,
    },
    /// Another log has begun in this process.
    #[error("another log has begun already")]
    Begun,
}

/// Begins the process's log.
///
/// # Errors
/// When the directory cannot be used safely, or another log has begun.
pub fn begin(log: &Log) -> Result<LogGuard, LogError> {
    private_directory(&log.directory)?;
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("cedargate")
        .filename_suffix("log")
        .max_log_files(LOG_FILES_KEPT)
        .build(&log.directory)
        .map_err(|source| LogError::File { path: log.directory.clone(), source })?;
    let (file, file_worker) = waiting(file, "log-file");
    let (stderr, stderr_worker) = waiting(io::stderr(), "log-stderr");
    let subscriber = subscriber(log, stderr, file);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Begun)?;
    log::set_logger(&Bridge).map_err(|_| LogError::Begun)?;
    log::set_max_level(log::LevelFilter::Info);
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "a panic was caught or ended a thread: {}", told_of(panic.payload()));
    }));
    Ok(LogGuard { _workers: [file_worker, stderr_worker] })
}

/// Takes what pingora and others say through `log`. None of it passes INFO, and no path of a build machine comes along.
struct Bridge;

impl log::Log for Bridge {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        let (from, message) = (record.target(), record.args());
        match record.level() {
            log::Level::Error => tracing::error!(target: "log", from, "{message}"),
            log::Level::Warn => tracing::warn!(target: "log", from, "{message}"),
            log::Level::Info => tracing::info!(target: "log", from, "{message}"),
            log::Level::Debug | log::Level::Trace => {}
        }
    }

    fn flush(&self) {}
}

/// What may be told of a panic: a text that stands in the code. A formatted one may quote what a client sent.
fn told_of(payload: &dyn Any) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("(its text is kept back: it may quote a request)")
}

fn waiting(writer: impl io::Write + Send + 'static, name: &str) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(false)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name(name)
        .finish(writer)
}

/// The lines for `people` in the chosen format, and JSON into `files`.
fn subscriber<P, F>(log: &Log, people: P, files: F) -> impl Subscriber + Send + Sync + use<P, F>
where
    P: for<'w> MakeWriter<'w> + Send + Sync + 'static,
    F: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let shown: Box<dyn Layer<Registry> + Send + Sync> = match log.format {
        LogFormat::Json => Box::new(json(people)),
        LogFormat::People => {
            use std::io::IsTerminal;
            Box::new(
                fmt::layer().with_writer(people).with_ansi(io::stderr().is_terminal()).with_target(false),
            )
        }
    };
    Registry::default().with(shown).with(json(files)).with(targets(log.level))
}

fn json<S, W>(writer: W) -> impl Layer<S> + Send + Sync
where
    S: Subscriber + for<'l> LookupSpan<'l>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(writer)
}

/// Our crates at the chosen level, all others at INFO at most.
fn targets(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    let others = LevelFilter::from_level(level).min(LevelFilter::INFO);
    OURS.iter().fold(Targets::new().with_default(others), |targets, ours| targets.with_target(*ours, level))
}

fn private_directory(path: &Path) -> Result<(), LogError> {
    let failed = |source| LogError::Directory { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let mode = std::fs::metadata(path).map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(LogError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::{Arc, Mutex};

    use super::{LogError, private_directory, subscriber};
    use crate::config::settings::{Log, LogFormat, LogLevel};

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn logged(format: LogFormat, level: LogLevel, work: impl FnOnce()) -> (String, String) {
        let (people, files) = (Kept::default(), Kept::default());
        let log = Log { format, level, directory: "unused".into() };
        let writers = (people.clone(), files.clone());
        let subscriber = subscriber(&log, move || writers.0.clone(), move || writers.1.clone());
        tracing::subscriber::with_default(subscriber, work);
        (people.text(), files.text())
    }

    #[test]
    fn our_debug_is_told_and_nobody_elses() {
        let work = || {
            tracing::debug!(target: "gateway::proxy", "ours");
            tracing::debug!(target: "pingora_core::protocols", "Cookie: theirs");
            tracing::trace!(target: "pingora_http", "theirs");
            tracing::debug!(target: "hyper", "theirs");
            tracing::info!(target: "pingora_core", "told");
        };
        let (_, files) = logged(LogFormat::Json, LogLevel::Trace, work);
        assert!(files.contains("ours") && files.contains("told") && !files.contains("theirs"), "{files}");
        let (_, files) = logged(LogFormat::Json, LogLevel::Info, work);
        assert!(!files.contains("ours") && files.contains("told"), "{files}");
        let (_, files) = logged(LogFormat::Json, LogLevel::Warn, work);
        assert_eq!(files, "");
    }

    #[test]
    fn what_others_say_through_log_is_told_without_their_debug_lines() {
        use tracing_log::log::{Level, Log as _, Record};
        let say = |target, level, text: &str| {
            super::Bridge
                .log(&Record::builder().level(level).target(target).args(format_args!("{text}")).build());
        };
        let work = || {
            say("pingora_core", Level::Warn, "told");
            say("pingora_core", Level::Debug, "Cookie: kept");
        };
        let (_, files) = logged(LogFormat::Json, LogLevel::Trace, work);
        let line: serde_json::Value = serde_json::from_str(&files).unwrap();
        assert_eq!((&line["from"], &line["message"]), (&"pingora_core".into(), &"told".into()));
    }

    #[test]
    fn of_a_panic_only_what_stands_in_the_code_is_told() {
        assert_eq!(super::told_of(&"index is past the end"), "index is past the end");
        assert!(!super::told_of(&"Cookie: secret".to_owned()).contains("secret"));
    }

    #[test]
    fn files_are_json_and_people_are_told_in_the_chosen_format() {
        let work = || tracing::warn!(target: "gateway", upstream = "billing", "an upstream\nis away");
        let (people, files) = logged(LogFormat::People, LogLevel::Info, work);
        let line: serde_json::Value = serde_json::from_str(&files).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "an upstream\nis away");
        assert_eq!(line["upstream"], "billing");
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert!(serde_json::from_str::<serde_json::Value>(&people).is_err(), "{people}");
        let (people, files) = logged(LogFormat::Json, LogLevel::Info, work);
        assert_eq!(people.lines().count(), 1);
        assert_eq!(files.lines().count(), 1);
    }

    #[test]
    fn the_directory_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/log");
        private_directory(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o700);
        private_directory(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(private_directory(&path), Err(LogError::Exposed { mode: 0o755, .. })));
    }
}
