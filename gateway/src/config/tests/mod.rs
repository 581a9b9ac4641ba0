//! The tables of what is taken and what stops the start.

mod network;
mod oidc;
mod otel;
mod secrets;
mod shared_limits;
mod values;

use std::path::Path;
use std::time::Duration;

use engine::limit::Rate;

use super::Config;
use super::environment::Environment;
use super::settings::{Deployment, LogFormat, LogLevel, WhenFull};

const ENCRYPTION: &str = "8f3a1c9be07d45526e914fb8a2c3d6070b5ae8f19c24d37786e1fa4c0d9b3512";
const DATABASE: &str = "41d07bc6f2a98e5310f6c4ad82e95b3727cb0e18f96a4d05b381e7fc2a4d9068";
const JWT: &str = "c95e20ab7f3164d8e2b70a19cd48f56b83f1e60c27a9d4be5130fc8a97e2d64b";

const HOSTS: &str = "hosts = [{ public_url = \"https://app.example.com\" }]\n";

fn keys() -> Environment {
    Environment::default()
        .with("BOTSERVER_ENCRYPTION_KEY", ENCRYPTION)
        .with("DATABASE_ENCRYPTION_KEY", DATABASE)
        .with("BOTSERVER_JWT_SECRET", JWT)
}

fn read(toml: &str, environment: &Environment) -> Result<Config, String> {
    Config::read(Path::new("gate.toml"), toml, environment).map_err(|faults| faults.to_string())
}

/// A whole configuration must give exactly one fault, whose text holds every part; none given means that it is taken.
fn check(toml: &str, variables: &[(&str, &str)], parts: &[&str]) {
    let environment = variables.iter().fold(keys(), |all, (name, value)| all.with(name, value));
    let toml = if toml.contains("hosts =") { toml.to_owned() } else { format!("{HOSTS}{toml}") };
    match read(&toml, &environment) {
        Ok(_) => assert!(parts.is_empty(), "taken: {toml} {variables:?}"),
        Err(text) => {
            assert!(!parts.is_empty(), "refused: {toml} {variables:?}\n{text}");
            assert_eq!(text.matches("remedy: ").count(), 1, "{text}");
            for part in parts {
                assert!(text.contains(part), "`{part}` is not in:\n{text}");
            }
        }
    }
}

#[test]
fn without_anything_but_hosts_and_keys_the_defaults_are_the_guides() {
    let config = read(HOSTS, &keys()).unwrap();
    assert_eq!(config.deployment, Deployment::Production);
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.session.idle, Duration::from_secs(3_600));
    assert_eq!(config.session.absolute, Duration::from_secs(86_400));
    assert_eq!(config.login.attempts_max, 5);
    assert_eq!(config.login.lockout, Duration::from_secs(900));
    assert_eq!(config.limits.per_address, Rate { count: 100, period_ms: 60_000 });
    assert_eq!(config.limits.per_user, Rate { count: 1_000, period_ms: 3_600_000 });
    assert!(config.limits.classes.is_empty());
    assert_eq!(config.upload_bytes_max, 104_857_600);
    assert_eq!(config.audit.retain_days, 30);
    assert!(config.audit.export);
    assert_eq!(config.audit.when_full("admin"), WhenFull::Refuse);
    assert_eq!(config.audit.when_full("standard"), WhenFull::Continue);
    assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Info));
    assert_eq!(config.hosts[0].name, "app.example.com");
    assert!(!config.policies_watch && config.tls.is_none() && config.upstreams.is_empty());
    assert_eq!(config.keys.encryption.expose()[0], 0x8f);
    assert_eq!(config.keys.jwt_secret.expose(), JWT);
}

#[test]
fn development_listens_for_this_machine_and_says_more() {
    let config = read("", &keys().with("BOTSERVER_ENV", "development")).unwrap();
    let names: Vec<&str> = config.hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["localhost:8080", "127.0.0.1:8080"]);
    assert_eq!((config.log.format, config.log.level), (LogFormat::People, LogLevel::Debug));
}

#[test]
fn every_variable_of_the_guide_is_heard_and_overrides_the_file() {
    let environment = keys()
        .with("BOTSERVER_SESSION_TIMEOUT", "120")
        .with("BOTSERVER_MAX_LOGIN_ATTEMPTS", "3")
        .with("BOTSERVER_LOCKOUT_DURATION", "60")
        .with("BOTSERVER_RATE_LIMIT_PER_IP", "7")
        .with("BOTSERVER_RATE_LIMIT_PER_USER", "8")
        .with("BOTSERVER_MAX_UPLOAD_SIZE", "9")
        .with(
            "BOTSERVER_ALLOWED_ORIGINS",
            "https://one.example, https://two.example:8443,https://one.example",
        )
        .with("BOTSERVER_ENABLE_AUDIT", "false")
        .with("BOTSERVER_REQUIRE_MFA", "false")
        .with("BOTSERVER_TLS_MIN_VERSION", "1.2")
        .with("ZITADEL_DOMAIN", "")
        .with("BOTSERVER_SESION_TIMEOUT", "1")
        .with("BOTSERVER_STACK_PATH", "x");
    let config = read(&format!("{HOSTS}[session]\nidle = \"2h\"\n"), &environment).unwrap();
    assert_eq!(config.session.idle, Duration::from_secs(120));
    assert_eq!(config.login.attempts_max, 3);
    assert_eq!(config.login.lockout, Duration::from_secs(60));
    assert_eq!(config.limits.per_address, Rate { count: 7, period_ms: 60_000 });
    assert_eq!(config.limits.per_user, Rate { count: 8, period_ms: 3_600_000 });
    assert_eq!(config.upload_bytes_max, 9);
    let origins: Vec<&str> = config.allowed_origins.iter().map(super::origin::Origin::as_str).collect();
    assert_eq!(origins, ["https://one.example", "https://two.example:8443"]);
    assert!(!config.audit.export);
    let notices = config.notices().join("\n");
    for part in [
        "BOTSERVER_SESSION_TIMEOUT overrides `session.idle`",
        "BOTSERVER_ALLOWED_ORIGINS: ",
        "BOTSERVER_ENABLE_AUDIT=false: ",
        "DATABASE_ENCRYPTION_KEY ",
        "BOTSERVER_SESION_TIMEOUT is set, and nothing here reads it; did you mean BOTSERVER_SESSION_TIMEOUT?",
        "BOTSERVER_STACK_PATH is set, and nothing here reads it",
    ] {
        assert!(notices.contains(part), "`{part}` is not in:\n{notices}");
    }
}

#[test]
fn a_second_factor_is_required_only_where_somebody_can_prove_one() {
    let required = [("BOTSERVER_REQUIRE_MFA", "true")];
    check("", &required, &["BOTSERVER_REQUIRE_MFA: ", "nobody could prove a second factor"]);
    let provider =
        "[[oidc.providers]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\nclient_id = \"x\"\n";
    let (none, acr) =
        (format!("{provider}mfa_amr = []\n"), format!("{provider}mfa_amr = []\nmfa_acr = [\"2\"]\n"));
    check(&none, &required, &["BOTSERVER_REQUIRE_MFA: "]);
    check(&none, &[], &[]);
    check(provider, &required, &[]);
    check(&acr, &required, &[]);
    let asks = |variable: &str| {
        let environment = keys().with("BOTSERVER_REQUIRE_MFA", variable);
        read(&format!("{HOSTS}{provider}"), &environment).unwrap().second_factor
    };
    assert!(asks("true") && !asks("false"));
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let toml = include_str!("faulty.toml");
    let environment = keys()
        .without("BOTSERVER_JWT_SECRET")
        .with("BOTSERVER_REQUIRE_MFA", "true")
        .with("BOTSERVER_RATE_LIMIT_PER_IP", "-5")
        .with("ZITADEL_DOMAIN", "https://id.example");
    let told = read(toml, &environment).unwrap_err();
    assert_eq!(told, include_str!("faulty.txt").trim_end(), "\n{told}\n");
}
