//! Who is asking: one file per credential scheme.

pub mod bearer;
pub mod cookies;
pub mod cross_site;
pub mod site;
