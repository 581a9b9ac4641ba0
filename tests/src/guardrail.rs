//! One guardrail more, which closes an action for everybody.

use std::fs;
use std::path::Path;

/// Its id.
pub const ID: &str = "test.closed";
/// What it says to whoever reads a record.
pub const REASON: &str = "Closed while this test looks.";
/// The file of a policy folder that it is appended to.
pub const FILE: &str = "guardrails/principals.cedar";

/// Its text, for an action such as `docs.read`.
#[must_use]
pub fn closing(action: &str) -> String {
    format!(
        "\n@id(\"{ID}\")\n@reason(\"{REASON}\")\n@owner(\"tests\")\n\
         forbid (principal, action == Action::\"{action}\", resource);\n"
    )
}

/// Appends it to a policy folder.
///
/// # Panics
/// The folder has no guardrails, or they cannot be written.
pub fn add(policies: &Path, action: &str) {
    let file = policies.join(FILE);
    let text = fs::read_to_string(&file).expect("the guardrails");
    fs::write(&file, text + &closing(action)).expect("one guardrail more");
}
