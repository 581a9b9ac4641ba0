//! `[websocket]`: what an open WebSocket may do.

use std::time::Duration;

use engine::limit::Rate;

use super::reader::{Reader, Section};
use super::settings::WebSockets;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
/// As BotServer's security guide has it.
const MESSAGE_BYTES: u64 = 10 * 1024 * 1024;
/// Somebody who types, or moves a cursor in a shared document, sends some ten a second.
const MESSAGES: Rate = Rate { count: 100, period_ms: 1_000 };
/// A person's tabs and devices.
const PER_USER: u64 = 32;

impl Reader<'_> {
    /// `[websocket]`.
    pub(super) fn websockets(&mut self, root: &mut Section<'_>) -> WebSockets {
        let mut section = self.section(root, "websocket");
        let bytes = self.pick(&mut section, "message_bytes_max", None);
        let bytes = self.number(bytes, 1..=1024 * 1024 * 1024).unwrap_or(MESSAGE_BYTES);
        let rate = self.pick(&mut section, "message_rate", None);
        let rate = self.rate(rate, SECOND).unwrap_or(MESSAGES);
        let per_user = self.pick(&mut section, "per_user_max", None);
        let per_user = self.number(per_user, 1..=1_000_000).unwrap_or(PER_USER);
        let ping = self.pick(&mut section, "ping", None);
        let ping = self.duration(ping, SECOND..=HOUR).unwrap_or(30 * SECOND);
        let idle = self.pick(&mut section, "idle", None);
        let place = idle.as_ref().map(|written| written.place.clone());
        let idle = self.duration(idle, SECOND..=HOUR).unwrap_or((2 * ping).max(60 * SECOND));
        self.finish(&section);
        if let Some(place) = place
            && idle <= ping
        {
            let message = "a WebSocket would be given up before it is asked for a sign of life";
            self.fault(place, message, "raise `websocket.idle`, or lower `websocket.ping` (30s unless set)");
        }
        WebSockets {
            message_bytes_max: bytes,
            message_rate: rate,
            per_user_max: usize::try_from(per_user).unwrap_or(usize::MAX),
            ping,
            idle,
        }
    }
}
