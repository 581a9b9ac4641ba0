//! Being somebody, signing out, and what everybody may see.

use super::*;

#[tokio::test]
async fn signing_out_asks_and_then_ends_this_session_alone() {
    let world = World::new().await;
    let ada = Login::parse("ada").unwrap().account_id();
    let ((secret, session), (other_secret, other)) = (world.session(ada).await, world.session(ada).await);
    let asked = world.ask(NOW, Some(&session), &request(Page::SignOut, &[], "")).await;
    assert!(text(&asked).contains("ada &#60;lovelace&#62;") && world.is_live(&secret).await);
    let token = field(text(&asked), "token");
    let submit = async |session, body: String| {
        world.ask(NOW, Some(session), &request(Page::SignOutSubmit, &[], &body)).await
    };
    for wrong in [String::new(), "token=".to_owned(), format!("token={}", "A".repeat(43))] {
        let answer = submit(&session, wrong).await;
        assert_eq!(answer.refusal, Some(Refusal::CrossSite(CrossSiteFault::FormToken)));
    }
    let answer = submit(&other, format!("token={token}")).await;
    assert_eq!(answer.refusal, Some(Refusal::CrossSite(CrossSiteFault::FormToken)));
    let answer = submit(&session, format!("token={token}")).await;
    assert_eq!((answer.status, &answer.refusal), (200, &None));
    assert!(
        header(&answer, &SET_COOKIE).unwrap().starts_with("__Host-cedargate=; ")
            && text(&answer).contains("Signed out")
    );
    assert!(!world.is_live(&secret).await && world.is_live(&other_secret).await);
    let nobody = world.ask(NOW, None, &request(Page::SignOutSubmit, &[], "token=x")).await;
    assert_eq!(nobody.refusal, Some(Refusal::Unauthenticated));
}

#[tokio::test]
async fn who_the_caller_is() {
    let world = World::new().await;
    let (_, session) = world.session(Uuid::from_u128(5)).await;
    let mut asked = request(Page::WhoAmI, &[], "");
    let page = world.ask(NOW, Some(&session), &asked).await;
    assert!(text(&page).contains("ada &#60;lovelace&#62;") && text(&page).contains("2023-11-14T22:13:20"));
    asked.audience = Audience::Program;
    let answer = world.ask(NOW, Some(&session), &asked).await;
    let told: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(
        told,
        serde_json::json!({
            "id": Uuid::from_u128(5), "name": "ada <lovelace>", "kind": "user", "roles": ["viewer"], "groups": [],
            "assurance": 1,
            "session": {
                "id": session.id, "created": "2023-11-14T22:13:20.000Z", "absolute_end": "2023-11-14T22:23:20.000Z",
            },
        })
    );
    assert_eq!(world.ask(NOW, None, &asked).await.refusal, Some(Refusal::Unauthenticated));
}

#[tokio::test]
async fn keys_and_style_may_be_kept() {
    let world = World::new().await;
    for (page, media_type, part) in [
        (Page::Keys, "application/jwk-set+json", "keys"),
        (Page::Style, "text/css; charset=utf-8", "prefers-color-scheme"),
    ] {
        let answer = world.ask(NOW, None, &request(page, &[], "")).await;
        assert_eq!(StatusCode::from_u16(answer.status).unwrap(), StatusCode::OK);
        assert_eq!(header(&answer, &CONTENT_TYPE), Some(media_type));
        assert_eq!(answer.headers.iter().filter(|(name, _)| name == CACHE_CONTROL).count(), 1);
        assert!(text(&answer).contains(part));
    }
}
