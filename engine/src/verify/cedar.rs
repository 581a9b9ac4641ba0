//! Requests in Cedar's own terms, as its `run-tests` spells them.

use std::str::FromStr;

use cedar_policy::{Context, Entities, EntityUid, Request};
use serde::Deserialize;
use serde_json::Value;

use super::subject::Answer;
use crate::authz::texts;
use crate::bundle::Bundle;

/// The request of a case in the shape of Cedar's `run-tests`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CedarRequest {
    principal: String,
    action: String,
    resource: String,
    #[serde(default)]
    context: serde_json::Map<String, Value>,
}

impl CedarRequest {
    /// The action's id, if it is one.
    pub(super) fn action_id(&self) -> Option<String> {
        let action = EntityUid::from_str(&self.action).ok()?;
        Some(action.id().unescaped().to_owned())
    }
}

/// Asks the policies of a bundle with the entities of the case beside those of the bundle.
pub(super) fn ask(bundle: &Bundle, asked: &CedarRequest, entities: Option<&Value>) -> Result<Answer, String> {
    let schema = &bundle.vocabulary().schema;
    let uid = |text: &str| EntityUid::from_str(text).map_err(|error| error.to_string());
    let action = uid(&asked.action)?;
    let context = Value::Object(asked.context.clone());
    let context =
        Context::from_json_value(context, Some((schema, &action))).map_err(|error| error.to_string())?;
    let request = Request::new(uid(&asked.principal)?, action, uid(&asked.resource)?, context, Some(schema))
        .map_err(|error| error.to_string())?;
    let own = match entities {
        Some(given) => {
            Entities::from_json_value(given.clone(), Some(schema)).map_err(|error| error.to_string())?
        }
        None => Entities::empty(),
    };
    let all =
        own.upsert_entities(bundle.hierarchy().all(), Some(schema)).map_err(|error| error.to_string())?;
    let verdict = bundle.evaluate(&request, &all);
    Ok(match verdict {
        verdict if !verdict.erring.is_empty() => Answer::Undecidable(texts(&verdict.erring)),
        verdict if verdict.permits => Answer::Permit(texts(&verdict.determining)),
        verdict if verdict.determining.is_empty() => Answer::NoGrant,
        verdict => Answer::Forbid(texts(&verdict.determining)),
    })
}
