//! Published vectors of signed tokens and their keys, with a verdict on each: what is said to be broken is never believed,
//! and what is said to be sound is, where it is of an algorithm that we take.

use std::path::Path;

use gateway::oidc::jose::Jws;
use gateway::oidc::keys::KeySet;
use serde_json::{Value, json};
use tests::repository;

/// Where a checkout of the vectors is, as Project Wycheproof publishes them; without it the few that stand here are tried.
const VECTORS: &str = "JOSE_VECTORS";

/// Vectors that are said to be broken and are believed all the same, with the reason.
const BELIEVED: [(&str, &str); 1] = [(
    "rejectsKeyWithRocaVulnerability",
    "a weak key of a provider is the provider's to replace; it is in its own set",
)];

#[derive(Default)]
struct Tally {
    believed: usize,
    refused: usize,
    of_other_algorithms: usize,
}

/// Whether a token is believed with a key, or with a set of keys.
fn is_believed(key: &Value, token: &str) -> bool {
    let set = if key.get("keys").is_some() { key.clone() } else { json!({"keys": [key]}) };
    let Ok(keys) = KeySet::parse(set.to_string().as_bytes()) else { return false };
    // Their payloads are any bytes, which is no token's; what is asked here is the signature.
    Jws::apart(token).is_ok_and(|(jws, _payload)| keys.verify(&jws).is_ok())
}

/// Whether a vector is of what we take: the token's algorithm, and the key's own, by whatever each says.
fn is_of_ours(key: &Value, token: &str) -> bool {
    const OURS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];
    let header = token.split('.').next().and_then(|part| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).ok()
    });
    let header: Value = header.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let named = header["alg"].as_str().unwrap_or_default();
    OURS.contains(&named) && key.get("alg").and_then(Value::as_str).is_none_or(|own| own == named)
}

fn judge(document: &Value, tally: &mut Tally, faults: &mut Vec<String>) {
    for group in document["testGroups"].as_array().expect("groups") {
        let key = group.get("public").or_else(|| group.get("private")).expect("a key");
        for test in group["tests"].as_array().expect("tests") {
            let (name, token) =
                (test["comment"].as_str().expect("a name"), test["jws"].as_str().expect("a token"));
            let sound = match test["result"].as_str() {
                Some("valid") => true,
                Some("invalid") => BELIEVED.iter().any(|(believed, _)| *believed == name),
                other => panic!("{name}: {other:?}"),
            };
            match (is_believed(key, token), sound) {
                (true, true) => tally.believed += 1,
                (false, true) if !is_of_ours(key, token) => tally.of_other_algorithms += 1,
                (false, false) => tally.refused += 1,
                (believed, _) => faults.push(format!(
                    "{} of {}: {}",
                    test["tcId"],
                    group["comment"],
                    if believed { "believed" } else { "not believed" }
                )),
            }
        }
    }
}

#[test]
fn published_vectors_are_judged_as_published() {
    let essential = repository::text("tests/jose/essential.json").expect("the vectors").content;
    let mut documents = vec![essential];
    match std::env::var_os(VECTORS) {
        Some(folder) => {
            for name in ["json_web_signature_test.json", "json_web_key_test.json"] {
                let file = Path::new(&folder).join(name);
                let text = std::fs::read_to_string(&file);
                documents.push(text.unwrap_or_else(|error| panic!("{}: {error}", file.display())));
            }
        }
        None => eprintln!("absent: {VECTORS} names no folder, so only the vectors of tests/jose were judged"),
    }
    let (mut tally, mut faults) = (Tally::default(), Vec::new());
    for document in &documents {
        judge(&serde_json::from_str(document).expect("JSON"), &mut tally, &mut faults);
    }
    assert!(faults.is_empty(), "{} verdicts differ:\n{}", faults.len(), faults.join("\n"));
    assert!(tally.believed >= 6 && tally.refused > 40 && tally.of_other_algorithms >= 2, "too few vectors");
    println!(
        "{} believed, {} refused, {} of algorithms that are not taken",
        tally.believed, tally.refused, tally.of_other_algorithms
    );
}
