//! Keys, and that no text of theirs is ever shown.

use std::path::Path;

use proptest::prelude::*;

use super::super::environment::Environment;
use super::super::{Config, keys as rules};
use super::{DATABASE, ENCRYPTION, HOSTS, JWT, check, keys, read};

#[test]
fn threat_13_a_key_that_is_missing_weak_shared_or_published_stops_the_start() {
    for name in ["BOTSERVER_ENCRYPTION_KEY", "DATABASE_ENCRYPTION_KEY", "BOTSERVER_JWT_SECRET"] {
        let missing = read(HOSTS, &keys().without(name)).unwrap_err();
        assert!(missing.starts_with(&format!("{name}: it is not set")), "{missing}");
        assert_eq!(missing.matches("remedy").count(), 1, "{missing}");
        check("", &[(name, "")], &[name, "is empty"]);
        check("", &[(name, "[256-bit hex string]")], &[name, "placeholder"]);
        check("", &[(name, &"ab".repeat(32))], &[name, "pattern"]);
        check("", &[(name, &ENCRYPTION.replacen('8', "", 1))], &[name, "64 hex digits"]);
        check("", &[(name, rules::BOTSERVER_DEV_SECRET)], &[name, "BotServer's development secret"]);
        check("", &[(name, "file:/nonexistent/key")], &[name, "cannot be opened"]);
    }
    check("", &[("DATABASE_ENCRYPTION_KEY", ENCRYPTION)], &["DATABASE_ENCRYPTION_KEY: ", "same key"]);
    check("", &[("BOTSERVER_JWT_SECRET", ENCRYPTION)], &["BOTSERVER_JWT_SECRET: ", "same key"]);
    check(
        "",
        &[("BOTSERVER_JWT_SECRET", &DATABASE.to_uppercase())],
        &["same key as DATABASE_ENCRYPTION_KEY"],
    );
    check("", &[("BOTSERVER_PREVIOUS_ENCRYPTION_KEYS", ENCRYPTION)], &["same key"]);
    check("", &[("BOTSERVER_PREVIOUS_ENCRYPTION_KEYS", "short")], &["64 hex digits"]);
    check(&format!("[keys]\nencryption = \"{JWT}\"\n"), &[], &["gate.toml:3: ", "holds a secret itself"]);
    check(
        &format!("[keys]\nprevious_encryption = [\"{ENCRYPTION}\"]\n"),
        &[],
        &["gate.toml:3: ", "holds a secret itself"],
    );
}

#[test]
fn a_key_comes_from_a_private_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    std::fs::write(&path, format!("{ENCRYPTION}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let reference = format!("file:{}", path.display());
    let config = read(HOSTS, &keys().with("BOTSERVER_ENCRYPTION_KEY", &reference)).unwrap();
    assert_eq!(config.keys.encryption.expose()[..2], [0x8f, 0x3a]);
    let filed = format!("{HOSTS}[keys]\nencryption = \"{reference}\"\n");
    assert!(read(&filed, &keys().without("BOTSERVER_ENCRYPTION_KEY")).is_ok());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    check("", &[("BOTSERVER_ENCRYPTION_KEY", &reference)], &["BOTSERVER_ENCRYPTION_KEY: ", "mode 0644"]);
}

proptest! {
    #[test]
    fn no_secret_is_ever_told(
        secrets in proptest::collection::vec("[a-zA-Z0-9!#%&*=+]{16,80}", 6),
        hex in "[0-9a-f]{64}",
        inline in any::<bool>(),
        broken in any::<bool>(),
    ) {
        let environment = Environment::default()
            .with("BOTSERVER_ENCRYPTION_KEY", &secrets[0])
            .with("DATABASE_ENCRYPTION_KEY", &hex)
            .with("BOTSERVER_JWT_SECRET", if broken { &secrets[2] } else { &hex })
            .with("BOTSERVER_PREVIOUS_ENCRYPTION_KEYS", &format!("{},{hex}", secrets[3]));
        let filed = if inline {
            format!("{HOSTS}[keys]\nencryption = \"{}\"\njwt_secrets = \"{}\"\n", secrets[4], secrets[5])
        } else {
            format!("{HOSTS}[keys]\nencryption = \"{}\njwt_secret = {}\n", secrets[4], secrets[5])
        };
        let faults = Config::read(Path::new("gate.toml"), &filed, &environment).unwrap_err();
        let json = serde_json::to_string(&faults.0).unwrap();
        for told in [faults.to_string(), format!("{faults:?}"), json] {
            for secret in secrets.iter().chain([&hex]) {
                prop_assert!(!told.contains(secret.as_str()), "{told}");
            }
        }
    }
}

#[test]
fn a_checked_configuration_shows_no_key() {
    let config = read(HOSTS, &keys()).unwrap();
    let shown = format!("{config:?} {:?}", config.notices());
    for secret in [ENCRYPTION, DATABASE, JWT, "143, 58"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
