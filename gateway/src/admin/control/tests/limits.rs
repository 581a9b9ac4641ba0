//! Limits over the control socket.

use engine::limit::Rate;
use storage::counters::{Counters, LimitKey, Take};

use super::*;
use crate::config::settings::Limits;

/// Counters of a gateway that shares none.
pub(super) fn counted() -> Counted {
    Counted { here: Arc::new(Counters::memory(64 * 1024)), shared: None }
}

/// What the gateway is configured with.
pub(super) fn settings() -> Limits {
    Limits { classes: [("llm".into(), Rate { count: 20, period_ms: 60_000 })].into(), ..Limits::default() }
}

#[tokio::test]
async fn limits_are_looked_at_and_reset_one_by_one_or_all() {
    let world = World::new(true);
    let (_stop, _task) = world.serve();
    let add = json!({"verb": "account.add", "login": "ada", "password": PASSWORD, "roles": []});
    let account = done(world.ask(add).await)["id"].clone();
    let id: Uuid = account.as_str().unwrap().parse().unwrap();
    let key = json!({"verb": "key.add", "service": "importer", "scopes": ["docs.*"]});
    done(world.ask(key).await);
    let take = async |limit: &str, cost| {
        let (hour, key) = (Rate { count: 1_000, period_ms: 3_600_000 }, LimitKey::principal(limit, id));
        let counters = &world.backend.counted.as_ref().unwrap().here;
        counters.take(&[Take::new(key, hour).costing(cost)], clock::now()).await;
    };
    let ask = async |verb: &str, of: &str, subject: &str, limit: Option<&str>| {
        world.ask(json!({"verb": verb, "of": of, "subject": subject, "limit": limit})).await
    };
    let left = |answer: &Value| -> Vec<(String, u64)> {
        let rows = answer["limits"].as_array().unwrap().iter();
        rows.map(|row| (row["limit"].as_str().unwrap().to_owned(), row["left"].as_u64().unwrap())).collect()
    };
    let stand =
        async |of: &str, subject: &str, limit| left(&done(ask("limits.show", of, subject, limit).await));
    let named = |name: &str, count: u64| (name.to_owned(), count);
    take("per-user", 260).await;
    let all = [named("per-user", 740), named("refusals", 60), named("step-ups", 600), named("llm", 20)];
    for subject in ["ada", &id.to_string()] {
        assert_eq!(stand("user", subject, None).await, all, "{subject}");
    }
    assert_eq!(stand("user", "ada", Some("llm")).await, [named("llm", 20)]);
    assert_eq!(stand("address", "192.0.2.1", None).await, [named("per-address", 100), named("llm", 20)]);
    assert_eq!(stand("service", "importer", Some("per-user")).await, [named("per-user", 1_000)]);
    let told = done(ask("limits.show", "user", "ada", Some("per-user")).await);
    assert_eq!((&told["redis"], &told["limits"][0]["next_ms"]), (&Value::Null, &json!(0)));
    assert!(told["limits"][0]["full_ms"].as_u64().is_some_and(|ms| ms > 0 && ms <= 936_000), "{told}");

    take("refusals", 900).await;
    let reset = done(ask("limits.reset", "user", "ada", Some("refusals")).await);
    assert_eq!((&reset["here"], &reset["redis"]), (&json!(["refusals"]), &json!([])));
    assert_eq!(stand("user", "ada", Some("refusals")).await, [named("refusals", 60)]);
    assert_eq!(stand("user", "ada", Some("per-user")).await, [named("per-user", 740)], "nothing else");
    done(ask("limits.reset", "user", "ada", None).await);
    assert_eq!(stand("user", "ada", Some("per-user")).await, [named("per-user", 1_000)]);

    for (of, subject, limit, code) in [
        ("user", "bob", None, Code::NotFound),
        ("service", "bob", None, Code::NotFound),
        ("user", "ada", Some("per-address"), Code::Invalid),
        ("address", "192.0.2.1", Some("per-user"), Code::Invalid),
        ("address", "192.0.2", None, Code::Invalid),
        ("user", "", None, Code::Invalid),
    ] {
        for verb in ["limits.show", "limits.reset"] {
            assert_eq!(refused(ask(verb, of, subject, limit).await), code, "{verb} {of} {subject} {limit:?}");
        }
    }
    let (records, _) = world.records().await;
    let reset: Vec<&Value> =
        records.iter().filter(|record| record["request"]["path"] == "limits.reset").collect();
    assert_eq!((&reset[0]["kind"], &reset[1]["kind"]), (&json!("opening"), &json!("control")));
    assert_eq!(reset[1]["route"]["parameters"], json!([["user", "ada"], ["limit", "refusals"]]));
}
