//! Access tokens: known by their digest, and verified, one figure for each algorithm.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use gateway::clock;
use gateway::oidc::Providers;
use gateway::oidc::jose::Algorithm;
use gateway::oidc::presented::Digest;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding,
};
use serde_json::{Value, json};
use storage::credentials::Accounts;
use storage::endings::Endings;

use super::house::{API, House};
use super::{ROUNDS, each};
use crate::Failure;
use crate::figures::Figure;

/// An RSA key of 2048 bits that signs nothing but tokens of tests.
const RSA: &str = include_str!("../../../gateway/src/oidc/tests/rsa.pk8.b64");
/// Tokens that are known.
const KNOWN: u32 = 1_000;
/// Look-ups that are timed together.
const HITS: u32 = 200_000;
/// Verifications that are timed together.
const MISSES: u32 = 2_000;

/// What the provider signs with.
struct Signer {
    rsa: RsaKeyPair,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
    random: SystemRandom,
}

/// Nanoseconds until a token that was seen is known again with its person's account as it is now, and microseconds until
/// one that was not is verified and its claims are read.
///
/// # Errors
/// A token is refused.
pub(super) async fn figures(house: &House) -> Result<Vec<Figure>, Failure> {
    let (stores, signer) = (house.stores("tokens", false).await?, Signer::new()?);
    house.tells(signer.keys().to_string());
    let endings = Endings::open(stores.store.clone())?;
    let providers = Providers::new(&stores.config.oidc, stores.keyring.clone(), endings)?;
    let accounts = Accounts::new(stores.store.clone());

    let mut figures = known(house, &signer, &providers, &accounts).await?;
    for (name, algorithm) in [
        ("rs256", Algorithm::Rs256),
        ("ps256", Algorithm::Ps256),
        ("es256", Algorithm::Es256),
        ("eddsa", Algorithm::EdDsa),
    ] {
        let text = signer.token(house, algorithm, 0)?;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let (providers, text) = (&providers, &text);
            let second = each(MISSES, |_| async move {
                let digest = Digest::of(text);
                if providers.presented.find(&digest).is_some() {
                    return Err("a token is known that should not be".into());
                }
                providers.verified(text, clock::now()).await.map(drop).map_err(Failure::from)
            });
            rounds.push(second.await? * 1e6);
        }
        figures.extend(Figure::median(format!("identity.token_miss_us.{name}"), &rounds, "us"));
    }
    Ok(figures)
}

async fn known(
    house: &House,
    signer: &Signer,
    providers: &Providers,
    accounts: &Accounts,
) -> Result<Vec<Figure>, Failure> {
    let mut texts = Vec::new();
    for number in 0..KNOWN {
        // Signed by the dearest to verify, which a hit must not show.
        let text = signer.token(house, Algorithm::Es256, number)?;
        let (token, _) = providers.verified(&text, clock::now()).await?;
        accounts.met(&token.person, clock::now()).await?;
        providers.presented.put(Digest::of(&text), Arc::new(token), clock::now());
        texts.push(text);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let texts = &texts;
        let second = each(HITS, |number| async move {
            let text = texts.get(usize::try_from(number)? % texts.len().max(1)).ok_or("no token")?;
            let (token, _) = providers.presented.find(&Digest::of(text)).ok_or("a token is not known")?;
            if !token.stands(clock::now()) {
                return Err("a token does not stand".into());
            }
            let account = accounts.find(token.person.origin.account_id()).await?;
            account.map(drop).ok_or_else(|| "an account is not found".into())
        });
        rounds.push(second.await? * 1e9);
    }
    Ok(Figure::median("identity.token_hit_ns", &rounds, "ns").into_iter().collect())
}

impl Signer {
    fn new() -> Result<Self, Failure> {
        let random = SystemRandom::new();
        let der = STANDARD.decode(RSA.split_whitespace().collect::<String>())?;
        let rejected = |_| "a key is not taken";
        let unmade = |_| "a key is not made";
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(unmade)?;
        let ed = Ed25519KeyPair::generate_pkcs8(&random).map_err(unmade)?;
        Ok(Self {
            rsa: RsaKeyPair::from_pkcs8(&der).map_err(rejected)?,
            ec: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random)
                .map_err(rejected)?,
            ed: Ed25519KeyPair::from_pkcs8(ed.as_ref()).map_err(rejected)?,
            random,
        })
    }

    fn keys(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = self
            .ec
            .public_key()
            .as_ref()
            .get(1..)
            .unwrap_or_default()
            .split_at_checked(32)
            .unwrap_or_default();
        let rsa = PublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "use": "sig", "n": text(&rsa.n), "e": text(&rsa.e)},
            {"kty": "EC", "kid": "ec", "crv": "P-256", "x": text(x), "y": text(y)},
            {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(self.ed.public_key().as_ref())},
        ]})
    }

    /// An access token of one of many people, as a provider makes it.
    fn token(&self, house: &House, algorithm: Algorithm, number: u32) -> Result<String, Failure> {
        let seconds = clock::now().0 / 1000;
        let (name, kid) = match algorithm {
            Algorithm::Rs256 => ("RS256", "rsa"),
            Algorithm::Ps256 => ("PS256", "rsa"),
            Algorithm::Es256 => ("ES256", "ec"),
            Algorithm::EdDsa => ("EdDSA", "ed"),
        };
        let header = json!({"alg": name, "kid": kid, "typ": "at+jwt"});
        let claims = json!({
            "iss": house.issuer(), "aud": API, "sub": format!("subject-{number}"), "client_id": "app",
            "jti": format!("{number}"), "iat": seconds, "exp": seconds + 3600, "scope": "openid docs",
            "email": "ada@corp.example", "roles": ["viewer", "analyst"],
        });
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let signature = match algorithm {
            Algorithm::Rs256 => self.by_rsa(&RSA_PKCS1_SHA256, &signed)?,
            Algorithm::Ps256 => self.by_rsa(&RSA_PSS_SHA256, &signed)?,
            Algorithm::Es256 => {
                let signature = self.ec.sign(&self.random, signed.as_bytes());
                signature.map_err(|_unspecified| "nothing is signed")?.as_ref().to_vec()
            }
            Algorithm::EdDsa => self.ed.sign(signed.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn by_rsa(&self, padding: &'static dyn RsaEncoding, signed: &str) -> Result<Vec<u8>, Failure> {
        let mut signature = vec![0; self.rsa.public().modulus_len()];
        let made = self.rsa.sign(padding, &self.random, signed.as_bytes(), &mut signature);
        made.map_err(|_unspecified| "nothing is signed")?;
        Ok(signature)
    }
}
