//! The audit log and the program's own log.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::reader::{Given, Reader, Section, Written};
use super::settings::{Audit, Deployment, Log, LogFormat, LogLevel, WhenFull};

/// Classes whose requests are not worth taking without their record, unless the configuration says otherwise.
const REFUSING_CLASSES: [&str; 2] = ["admin", "auth"];

impl Reader<'_> {
    /// `[audit]`. Turning it off stops the export and never the file.
    pub(super) fn audit(&mut self, root: &mut Section<'_>) -> Audit {
        let mut section = self.section(root, "audit");
        let export = self.pick(&mut section, "export", Some("BOTSERVER_ENABLE_AUDIT"));
        let export = self.boolean(export).unwrap_or(true);
        if !export {
            self.notices.push("BOTSERVER_ENABLE_AUDIT=false: events are not exported; the audit file is written all the same".into());
        }
        let retain = self.pick(&mut section, "retain_days", None);
        let retain = self.number(retain, 1..=3_650).and_then(|days| u32::try_from(days).ok());
        let mut when_full: BTreeMap<Arc<str>, WhenFull> =
            REFUSING_CLASSES.iter().map(|class| (Arc::from(*class), WhenFull::Refuse)).collect();
        let classes = self.section(&mut section, "when_full");
        for (key, value) in classes.entries() {
            let name = key.get_ref().as_ref();
            let written = Written {
                name: format!("`{}`", classes.dotted(name)),
                place: self.in_file(Some(self.line(&key.span()))),
                value: Given::Toml(value.get_ref()),
            };
            let words = [("refuse", WhenFull::Refuse), ("continue", WhenFull::Continue)];
            if let Some(chosen) = self.choice(Some(written), &words) {
                when_full.insert(Arc::from(name), chosen);
            }
        }
        self.finish(&section);
        Audit { export, retain_days: retain.unwrap_or(30), when_full }
    }

    /// `[log]`: INFO and JSON in production, DEBUG and lines for people in development.
    pub(super) fn log(&mut self, root: &mut Section<'_>, deployment: Deployment, data_dir: &Path) -> Log {
        let mut section = self.section(root, "log");
        let format = self.pick(&mut section, "format", None);
        let format = self.choice(format, &[("json", LogFormat::Json), ("people", LogFormat::People)]);
        let level = self.pick(&mut section, "level", None);
        let level = self.choice(
            level,
            &[
                ("error", LogLevel::Error),
                ("warn", LogLevel::Warn),
                ("info", LogLevel::Info),
                ("debug", LogLevel::Debug),
                ("trace", LogLevel::Trace),
            ],
        );
        let directory = self.pick(&mut section, "directory", None);
        let directory = self.path(directory);
        self.finish(&section);
        let (usual_format, usual_level) = match deployment {
            Deployment::Production => (LogFormat::Json, LogLevel::Info),
            Deployment::Development => (LogFormat::People, LogLevel::Debug),
        };
        Log {
            format: format.unwrap_or(usual_format),
            level: level.unwrap_or(usual_level),
            directory: directory.unwrap_or_else(|| data_dir.join("log")),
        }
    }
}
