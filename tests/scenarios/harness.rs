//! The harness can fail: what proves the product is itself proved to see what it looks for.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tests::secrets::Secrets;

#[test]
fn the_scanner_finds_a_secret_in_every_spelling_and_nothing_else() {
    let secret = "p4ss/word+with=signs";
    let mut secrets = Secrets::default();
    secrets.add("the password", secret);
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let leaks = [
        secret.to_owned(),
        STANDARD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        hex,
        "p4ss%2Fword%2Bwith%3Dsigns".to_owned(),
    ];
    let folder = tempfile::TempDir::new().expect("a folder");
    let log = folder.path().join("deep/er/log.jsonl");
    fs::create_dir_all(log.parent().expect("a folder")).expect("a folder");
    for leak in leaks {
        fs::write(&log, format!("{{\"detail\":\"before{leak}after\"}}\n")).expect("a log");
        assert_eq!(secrets.found_under(folder.path(), &[]).len(), 1, "{leak} was not found");
    }
    assert!(
        secrets.found_under(folder.path(), std::slice::from_ref(&log)).is_empty(),
        "a file left out was read"
    );
    fs::write(&log, "p4ss word with signs").expect("a log");
    assert!(secrets.found_under(folder.path(), &[]).is_empty());
}
