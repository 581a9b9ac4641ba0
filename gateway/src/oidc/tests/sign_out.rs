//! What a provider is shown when its person signs out there as well.

use std::collections::HashMap;

use storage::sessions::SignOutHint;

use super::super::Providers;
use super::standin::Standin;
use super::*;

const BACK: &str = "https://app.example/.cedargate/login";

#[tokio::test]
async fn a_provider_is_shown_its_own_token_while_it_can_recognise_it_and_no_other() {
    let (standin, signer) = (Standin::start().await, Signer::new());
    let mut settings = provider(Preset::Generic);
    settings.issuer.clone_from(&standin.issuer);
    let providers = Providers::with_keys(&[settings.clone()], &signer.jwks().to_string());
    let own = [("iss", json!(standin.issuer))];
    let sign = |signer: &Signer, claims: Value| {
        signer.sign(Algorithm::Es256, &json!({"alg": "ES256", "kid": "ec"}), &claims.to_string())
    };
    let token = sign(&signer, changed(claims(), &own));
    let over = sign(&signer, changed(changed(claims(), &own), &[("exp", json!(1))]));
    let forged = sign(&Signer::new(), changed(claims(), &own));
    let shown = async |hint: Option<&str>| {
        let hint = hint.map(|text| SignOutHint::new(text).unwrap());
        let url = providers.iter().next().unwrap().end_session(BACK, hint.as_ref()).await.unwrap();
        assert!(url.as_str().starts_with(&format!("{}/end?", standin.issuer)), "{url}");
        let mut fields: HashMap<String, String> = url.query_pairs().into_owned().collect();
        assert_eq!(fields.remove("client_id").as_ref(), Some(&settings.client_id));
        assert_eq!(fields.remove("post_logout_redirect_uri").as_deref(), Some(BACK));
        let hint = fields.remove("id_token_hint");
        assert!(fields.is_empty(), "{fields:?}");
        hint
    };
    assert_eq!(shown(Some(&token)).await.as_ref(), Some(&token));
    assert_eq!(
        shown(Some(&over)).await.as_ref(),
        Some(&over),
        "one that is over still says whose session it is"
    );
    for nothing in [None, Some(forged.as_str()), Some("a.b.c")] {
        assert_eq!(shown(nothing).await, None, "{nothing:?}");
    }
    providers.rotate(&Signer::new().jwks().to_string());
    assert_eq!(shown(Some(&token)).await, None, "its key is gone there");
}
