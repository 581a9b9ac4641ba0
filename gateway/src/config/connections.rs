//! How many connections and requests are held at once, and how slow they may be.

use std::time::Duration;

use super::reader::{Reader, Section};
use super::settings::Connections;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3_600);

impl Reader<'_> {
    /// `[connections]`. A part that is larger than the whole would never be met.
    pub(super) fn connections(&mut self, root: &mut Section<'_>) -> Connections {
        let usual = Connections::default();
        let mut section = self.section(root, "connections");
        let max = self.count(&mut section, "max", usual.max);
        let per_address_max = self.part(&mut section, "per_address_max", usual.per_address_max, max);
        let requests_max = self.count(&mut section, "requests_max", usual.requests_max);
        let requests_per_address_max =
            self.part(&mut section, "requests_per_address_max", usual.requests_per_address_max, requests_max);
        let idle = self.pick(&mut section, "idle", None);
        let idle = self.duration(idle, SECOND..=HOUR);
        let head = self.pick(&mut section, "head", None);
        let head = self.duration(head, 100 * MILLISECOND..=HOUR);
        let body_grace = self.pick(&mut section, "body_grace", None);
        let body_grace = self.duration(body_grace, 100 * MILLISECOND..=HOUR);
        let body_rate_min = self.pick(&mut section, "body_rate_min", None);
        let body_rate_min = self.number(body_rate_min, 1..=1024 * 1024);
        let stall = self.pick(&mut section, "stall", None);
        let stall = self.duration(stall, 100 * MILLISECOND..=HOUR);
        self.finish(&section);
        Connections {
            max,
            per_address_max,
            requests_max,
            requests_per_address_max,
            idle: idle.unwrap_or(usual.idle),
            head: head.unwrap_or(usual.head),
            body_grace: body_grace.unwrap_or(usual.body_grace),
            body_rate_min: body_rate_min.unwrap_or(usual.body_rate_min),
            stall: stall.unwrap_or(usual.stall),
        }
    }

    fn count(&mut self, section: &mut Section<'_>, key: &'static str, usual: u32) -> u32 {
        let written = self.pick(section, key, None);
        self.number(written, 1..=1_000_000).and_then(|count| u32::try_from(count).ok()).unwrap_or(usual)
    }

    fn part(&mut self, section: &mut Section<'_>, key: &'static str, usual: u32, whole: u32) -> u32 {
        let written = self.pick(section, key, None);
        let Some(place) = written.as_ref().map(|written| written.place.clone()) else {
            return usual.min(whole);
        };
        let part = self.number(written, 1..=1_000_000).and_then(|count| u32::try_from(count).ok());
        if part.is_some_and(|part| part > whole) {
            let message = format!("`{}` is more than all addresses may have together", section.dotted(key));
            self.fault(place, message, "lower it, or raise the bound for all");
        }
        part.unwrap_or(usual)
    }
}
