//! `cedargate policy check`

use engine::bundle::BundleFault;
use serde_json::{Value, json};

use super::super::out::say;
use super::{Failure, Policies};

/// Check schema, policies, entities and routes, and tell every fault
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    policies: Policies,
    /// Tell it as one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if !args.json {
        let bundle = args.policies.load()?;
        say(format_args!("well: {} routes", bundle.routes().routes().len()));
        bundle.limits().named().for_each(|(name, limit)| say(format_args!("limit {name}: {limit}")));
        say(format_args!("bundle {}", bundle.id()));
        return Ok(());
    }
    let (told, done) = match args.policies.load_silently() {
        Ok(bundle) => (json!({ "valid": true, "bundle": bundle.id().to_string(), "faults": [] }), Ok(())),
        Err(faults) => {
            let faults: Vec<Value> = faults.iter().map(fault).collect();
            (json!({ "valid": false, "faults": faults }), Err(Failure::told()))
        }
    };
    say(told);
    done
}

fn fault(BundleFault { file, line, message, remedy }: &BundleFault) -> Value {
    json!({ "file": file, "line": line, "message": message, "remedy": remedy })
}
