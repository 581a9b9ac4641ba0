//! `[engine]`: how decisions are made.

use std::num::NonZeroU64;

use super::reader::{Reader, Section, printable};
use super::settings::Oracle;

impl Reader<'_> {
    /// `[engine]`.
    pub(super) fn oracle(&mut self, root: &mut Section<'_>) -> Oracle {
        let mut section = self.section(root, "engine");
        let written = self.pick(&mut section, "oracle", None);
        let oracle = written.is_some().then(|| self.text(written)).flatten();
        self.finish(&section);
        let Some(text) = oracle else { return Oracle::Off };
        match (text.text, text.text.strip_prefix("sample:").map(str::parse::<NonZeroU64>)) {
            ("off", _) => Oracle::Off,
            ("always", _) => Oracle::Always,
            (_, Some(Ok(every))) => Oracle::Sample(every),
            (other, _) => {
                let message = format!("{} is `{}`, which is not known", text.name, printable(other));
                self.fault(
                    text.place,
                    message,
                    "write `off`, `always` or `sample:N`, for example `sample:1000`",
                );
                Oracle::Off
            }
        }
    }
}
