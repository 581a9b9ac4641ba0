//! `cedargate limits`

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use super::failure::Failure;
use super::operate::{Target, text};
use super::out::say;
use super::wrap::wrapped;
use crate::admin::control::{LimitsOf, Verb};

/// What a KEY is.
const KEY: &str = "\
A KEY is whose limits are meant, and which of them where only one is:

  address 192.0.2.1                 all limits of an address; an IPv6
                                    network of 64 bits counts as one
  user ada                          of a person: login, account id or the
                                    principal's id in a record
  service importer                  of a service: the name of its key, or the
                                    principal's id in a record
  user ada per-user                 one limit, by the name that a refusal and
                                    its record have: per-address, per-user,
                                    refusals, step-ups, or a class such as llm

The running gateway answers. \"here\" is what it counts by itself, \"redis\" what
gateways count together.";

/// What somebody has taken of their limits: show, reset
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: LimitsVerb,
}

#[derive(Debug, Subcommand)]
enum LimitsVerb {
    /// Show how the limits of somebody stand
    #[command(after_help = KEY)]
    Show {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        key: Key,
    },
    /// Forget what somebody has taken, so that all of it is there again
    ///
    /// It is decided by policy and recorded. What other gateways count by
    /// themselves stays: ask each of them.
    #[command(after_help = KEY)]
    Reset {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        key: Key,
    },
}

#[derive(Debug, clap::Args)]
struct Key {
    /// Who has the limits
    #[arg(value_name = "KEY", value_enum)]
    of: Of,
    /// The address, login, name or id
    subject: String,
    /// The limit; all of them unless named
    limit: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Of {
    Address,
    User,
    Service,
}

impl From<Of> for LimitsOf {
    fn from(of: Of) -> Self {
        match of {
            Of::Address => Self::Address,
            Of::User => Self::User,
            Of::Service => Self::Service,
        }
    }
}

pub(super) fn run(args: Args) -> Result<(), Failure> {
    match args.verb {
        LimitsVerb::Show { target, key: Key { of, subject, limit } } => {
            let title = format!("{} {subject}", LimitsOf::from(of).name());
            target
                .have(Verb::LimitsShow { of: of.into(), subject, limit }, |answer| say(shown(&title, answer)))
        }
        LimitsVerb::Reset { target, key: Key { of, subject, limit } } => {
            let verb = Verb::LimitsReset { of: of.into(), subject, limit };
            target.have(verb, |answer| {
                let limits = answer.get("limits").and_then(Value::as_array).into_iter().flatten();
                let limits = limits.filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
                say(format_args!("reset {limits} of {} {}", text(answer, "of"), text(answer, "subject")));
            })
        }
    }
}

/// Whose they are, and a line for each.
fn shown(title: &str, answer: &Value) -> String {
    let mut lines = vec![super::wrap::printable(title)];
    let redis = text(answer, "redis");
    if let Some(fault) = redis.strip_prefix("away: ") {
        let without = format!("redis is away ({fault}): this is what this gateway holds without it");
        lines.push(wrapped(&without, 2));
    }
    for limit in answer.get("limits").and_then(Value::as_array).into_iter().flatten() {
        let counted = text(limit, "counted");
        let place = if counted == "here_without_redis" { "here" } else { &counted };
        let shadowed = limit.get("shadow").and_then(Value::as_bool).unwrap_or_default();
        let shadowed = if shadowed { "; refuses nobody, for it is only tried out" } else { "" };
        lines.push(wrapped(&format!("  {} ({place}): {}{shadowed}", text(limit, "limit"), state(limit)), 6));
    }
    lines.join("\n")
}

/// The state of a limit in words.
fn state(limit: &Value) -> String {
    let number = |field| limit.get(field).and_then(Value::as_u64);
    match text(limit, "state").as_str() {
        "open" => return "limits nothing while redis is away".to_owned(),
        "closed" => return "admits nothing while redis is away".to_owned(),
        _ => {}
    }
    let (left, of) = (number("left").unwrap_or_default(), number("of").unwrap_or_default());
    let each = in_words(number("period_ms").unwrap_or_default());
    let rate = format!("{left} of {of} left, {of} in {each}");
    match (number("next_ms"), number("full_ms")) {
        (_, Some(0)) => format!("{rate}; untouched"),
        (Some(0), Some(full)) => format!("{rate}; full again in {}; next permitted now", in_words(full)),
        (Some(next), Some(full)) => {
            format!("{rate}; full again in {}; next permitted in {}", in_words(full), in_words(next))
        }
        (None, _) | (_, None) => format!("{rate}; next permitted never"),
    }
}

/// A time in words, rounded up: whoever waits so long does not wait in vain.
fn in_words(ms: u64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    let seconds = ms.div_ceil(1_000);
    let (large, unit, small, part) = match seconds {
        0..=119 => return format!("{seconds} s"),
        120..=7_199 => return format!("{} min", seconds.div_ceil(MINUTE)),
        7_200..=172_799 => (seconds / HOUR, "h", (seconds % HOUR).div_ceil(MINUTE), ("min", 60)),
        172_800.. => (seconds / DAY, "d", (seconds % DAY).div_ceil(HOUR), ("h", 24)),
    };
    match small {
        0 => format!("{large} {unit}"),
        small if small == part.1 => format!("{} {unit}", large + 1),
        small => format!("{large} {unit} {small} {}", part.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_are_told_in_words_and_never_too_short() {
        for (ms, words) in [
            (0, "0 s"),
            (1, "1 s"),
            (3_000, "3 s"),
            (60_000, "60 s"),
            (119_001, "2 min"),
            (720_000, "12 min"),
            (720_001, "13 min"),
            (3_600_000, "60 min"),
            (7_200_000, "2 h"),
            (7_200_001, "2 h 1 min"),
            (10_799_999, "3 h"),
            (86_400_000, "24 h"),
            (172_800_000, "2 d"),
            (172_800_001, "2 d 1 h"),
            (259_199_999, "3 d"),
            (u64::MAX, "213503982334 d 15 h"),
        ] {
            assert_eq!(in_words(ms), words, "{ms}");
        }
    }

    #[test]
    fn a_key_is_told_in_words_that_fit_a_terminal() {
        let row = |limit: &str, left: u64, next: Option<u64>, full: u64| {
            json!({"limit": limit, "counted": "redis", "state": "counted", "left": left, "of": 1000,
                   "period_ms": 3_600_000, "next_ms": next, "full_ms": full})
        };
        let mut answer = json!({"redis": "up", "limits": [
            row("per-user", 740, Some(0), 720_000), row("llm", 0, Some(2_100), 3_600_000), row("x", 1000, Some(0), 0),
            row("none", 0, None, 1),
        ]});
        assert_eq!(
            shown("user ada", &answer),
            "user ada\n\
             \x20 per-user (redis): 740 of 1000 left, 1000 in 60 min; full again in 12 min; next\n\
             \x20     permitted now\n\
             \x20 llm (redis): 0 of 1000 left, 1000 in 60 min; full again in 60 min; next\n\
             \x20     permitted in 3 s\n\
             \x20 x (redis): 1000 of 1000 left, 1000 in 60 min; untouched\n\
             \x20 none (redis): 0 of 1000 left, 1000 in 60 min; next permitted never"
        );
        answer["redis"] = json!("away: it refuses connections");
        let away = |state: &str| json!({"limit": state, "counted": "here_without_redis", "state": state});
        answer["limits"] = json!([away("open"), away("closed")]);
        assert_eq!(
            shown("user a\u{1b}", &answer),
            "user a\u{fffd}\n\
             redis is away (it refuses connections): this is what this gateway holds without\n  it\n\
             \x20 open (here): limits nothing while redis is away\n\
             \x20 closed (here): admits nothing while redis is away"
        );
    }
}
