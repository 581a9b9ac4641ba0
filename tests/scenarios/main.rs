//! The whole, proved. One binary, because linking many costs every contributor minutes.
//!
//! With the feature `security_tests` the scenarios run the real gateway; without it only the house's rules are tried.

#[cfg(feature = "security_tests")]
mod access_tokens;
#[cfg(feature = "security_tests")]
mod attacks;
#[cfg(feature = "security_tests")]
mod browser;
mod cedar;
#[cfg(feature = "security_tests")]
mod connections;
#[cfg(feature = "security_tests")]
mod demo;
#[cfg(feature = "security_tests")]
mod dependencies;
mod documents;
#[cfg(feature = "security_tests")]
mod exchange;
#[cfg(feature = "security_tests")]
mod failover;
#[cfg(feature = "security_tests")]
mod failures;
#[cfg(feature = "security_tests")]
mod fleet;
mod fleet_crashes;
mod fleet_guesses;
mod fleet_people;
#[cfg(feature = "security_tests")]
mod fleet_tokens;
mod harness;
#[cfg(feature = "security_tests")]
mod identity;
#[cfg(feature = "security_tests")]
mod jose;
mod library;
#[cfg(feature = "security_tests")]
mod limits;
mod opaque_tokens;
#[cfg(feature = "security_tests")]
mod openbao;
#[cfg(feature = "security_tests")]
mod openid;
#[cfg(feature = "security_tests")]
mod openid_check;
#[cfg(feature = "security_tests")]
mod openid_ended;
#[cfg(feature = "security_tests")]
mod openid_keyed;
#[cfg(feature = "security_tests")]
mod openid_pushed;
#[cfg(feature = "security_tests")]
mod openid_refused;
#[cfg(feature = "security_tests")]
mod openid_renewed;
#[cfg(feature = "security_tests")]
mod openid_signed_out;
#[cfg(feature = "security_tests")]
mod openid_step_up;
#[cfg(feature = "security_tests")]
mod operations;
#[cfg(feature = "security_tests")]
mod oracle;
#[cfg(feature = "security_tests")]
mod pipeline;
mod policies;
#[cfg(feature = "security_tests")]
mod production;
mod refusals;
#[cfg(feature = "security_tests")]
mod reload;
#[cfg(feature = "security_tests")]
mod replay;
#[cfg(feature = "security_tests")]
mod slow;
#[cfg(feature = "security_tests")]
mod streams;
#[cfg(feature = "security_tests")]
mod telemetry;
#[cfg(feature = "security_tests")]
mod threats;
mod tidy;
#[cfg(feature = "security_tests")]
mod traces;
#[cfg(feature = "security_tests")]
mod websocket;
#[cfg(feature = "security_tests")]
mod websocket_bounds;
#[cfg(feature = "security_tests")]
mod websocket_frames;
