//! The gateway's own pages: routes like all others, reached with a `Passage` like an upstream.

pub mod form;
pub mod render;
pub mod return_to;
pub mod token;

pub use render::{Frame, Rendered, problem, refusal_page};

/// The sign-in page, and what it posts to.
pub const SIGN_IN_PATH: &str = "/.cedargate/login";
/// The page that asks whether to sign out, and what it posts to.
pub const SIGN_OUT_PATH: &str = "/.cedargate/logout";
/// Who the caller is.
pub const WHO_AM_I_PATH: &str = "/.cedargate/whoami";
/// The style sheet of the pages.
pub const STYLE_PATH: &str = "/.cedargate/style.css";
