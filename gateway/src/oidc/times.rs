//! When a token begins and ends (RFC 7519, sections 2 and 4.1).

use engine::time::UnixMillis;
use serde_json::{Map, Value};

/// How far the provider's clock and ours may be apart, in milliseconds: a minute, as RFC 7519 suggests "no more than a
/// few minutes".
pub const LEEWAY_MS: u64 = 60_000;

/// The times of a token that has begun and is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When it was issued, by the provider's clock.
    pub issued: UnixMillis,
    /// From when on it is not believed: its end, and the leeway past it.
    pub ends: UnixMillis,
}

/// Why a token does not hold now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeFault {
    /// A time is missing or no number.
    Form,
    /// It is over.
    Expired,
    /// It begins in the future.
    NotYet,
}

impl Times {
    /// `exp` and `iat` must be there, `nbf` may; each is a number, because a text would be passed over by others.
    ///
    /// # Errors
    /// See [`TimeFault`].
    pub fn of(claims: &Map<String, Value>, now: UnixMillis) -> Result<Self, TimeFault> {
        let time =
            |name: &str| claims.get(name).map(|value| milliseconds(value).ok_or(TimeFault::Form)).transpose();
        let ends = time("exp")?.ok_or(TimeFault::Form)?;
        let issued = time("iat")?.ok_or(TimeFault::Form)?;
        let begins = time("nbf")?.unwrap_or(issued);
        let ends = ends.saturating_add(LEEWAY_MS);
        if now.0 >= ends {
            return Err(TimeFault::Expired);
        }
        if issued.max(begins) > now.0.saturating_add(LEEWAY_MS) {
            return Err(TimeFault::NotYet);
        }
        Ok(Self { issued: UnixMillis(issued), ends: UnixMillis(ends) })
    }
}

/// A `NumericDate` (RFC 7519, section 2) in milliseconds; seconds may have a fraction.
pub(super) fn milliseconds(value: &Value) -> Option<u64> {
    if let Some(seconds) = value.as_u64() {
        return seconds.checked_mul(1000);
    }
    // 2^53 milliseconds: past it a fraction of a number says nothing.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let milliseconds = value.as_f64().filter(|_| value.is_f64())? * 1000.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 and 2^53")]
    (0.0..EXACT).contains(&milliseconds).then_some(milliseconds as u64)
}
