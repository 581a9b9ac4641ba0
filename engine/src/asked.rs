//! For programs that embed the engine: from a request line and who sends it to a permit or a refusal.
//!
//! The gateway takes the same steps one by one, with its records between them. What is asked of a request beside its line
//! (headers, bodies, quotas, that no other site has caused it) stays with whoever embeds this.

use std::net::IpAddr;

use http::Method;

use crate::authz::{AuthzRequest, Decision, Permit};
use crate::bundle::Bundle;
use crate::identity::{Identity, Scheme};
use crate::path::{CanonicalPath, split_target};
use crate::query::CanonicalQuery;
use crate::refusal::{CredentialFault, Denial, Refusal};
use crate::route::{Accept, Parameter, Parameters, Route, RouteMatch, spelling};
use crate::time::UnixMillis;

/// Who asks, from where, and when. Policies may look at each of these, so none has a default.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Who was verified, by whatever means.
    pub identity: &'a Identity,
    /// The client's address.
    pub client: IpAddr,
    /// Whether the client's connection is encrypted.
    pub tls: bool,
    /// The time of day.
    pub now: UnixMillis,
}

/// What a request line asks of a bundle.
#[derive(Clone, Debug)]
pub struct Asked<'b> {
    bundle: &'b Bundle,
    matched: RouteMatch,
    parameters: Parameters,
    method: Method,
}

impl Bundle {
    /// What a request line asks for. `target` is its path and query as the client wrote them: whatever decodes or tidies
    /// them first may turn one path into another.
    ///
    /// # Errors
    /// `Malformed` for a target that is ambiguous, or spelt as its route does not take it; `Unrouted` where no route names
    /// it. A concealed route refuses as if there were none.
    pub fn asked(&self, method: &Method, target: impl AsRef<[u8]>) -> Result<Asked<'_>, Refusal> {
        let (path, query) = split_target(target.as_ref());
        let path = CanonicalPath::parse(path).map_err(Refusal::Malformed)?;
        let query = CanonicalQuery::parse(query).map_err(Refusal::Malformed)?;
        let Some(matched) = self.routes().find(method, &path) else {
            // An ambiguous spelling is named whether or not a route stands behind it.
            spelling::unrouted(&path, &query).map_err(Refusal::Malformed)?;
            return Err(Refusal::Unrouted);
        };
        let taken = matched.route.takes(&path, &query);
        taken.map_err(|misspelt| concealed(&matched.route, Refusal::Malformed(misspelt.fault)))?;
        let parameters = matched.asked(&query);
        Ok(Asked { bundle: self, matched, parameters, method: method.clone() })
    }
}

impl Asked<'_> {
    /// The route that names it. Of a route that is not `read_only` make sure that no other site has caused the request, where
    /// the caller is known by a cookie.
    #[must_use]
    pub fn route(&self) -> &Route {
        &self.matched.route
    }

    /// The parameters that policies are told: those of the path, and those that the route declares of the query.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// What policy says of it, asked by this caller. Who comes with a credential that the route does not take is denied, and so
    /// is whose proof is weaker or older than it asks; [`Asked::permitted`] tells these apart.
    #[must_use]
    pub fn by(&self, caller: &Caller<'_>) -> Decision {
        match self.seen(caller.identity) {
            Ok(identity) if unproved(self.route(), identity, caller.now).is_none() => {
                self.decide(caller, identity)
            }
            Ok(_) | Err(_) => Decision::Deny(Denial { forbidding: Vec::new() }),
        }
    }

    /// The permit of this caller.
    ///
    /// # Errors
    /// `Unauthenticated` where somebody known might be permitted, `CredentialRejected` for a credential that the route does
    /// not take, `StepUp` for a proof that is weaker or older than it asks, `Forbidden` or `Undecidable` where policy says
    /// no, `Unrouted` for all of these on a concealed route. Each has its one [`answer`](Refusal::answer).
    pub fn permitted(&self, caller: &Caller<'_>) -> Result<Permit, Refusal> {
        let permitted = self.seen(caller.identity).and_then(|identity| {
            self.decide(caller, identity).permitted_on(self.route(), identity, caller.now)
        });
        permitted.map_err(|refusal| concealed(self.route(), refusal))
    }

    /// Who asks, as the route sees it. A session comes along by itself, so where nobody has to be known it is passed over;
    /// a key that was sent on purpose is not.
    fn seen<'a>(&self, identity: &'a Identity) -> Result<&'a Identity, Refusal> {
        let accept = self.route().accept;
        match identity {
            _ if accept.takes(identity) => Ok(identity),
            Identity::Anonymous => Err(Refusal::Unauthenticated),
            Identity::Known(principal) if principal.scheme == Scheme::Session && accept.anonymous => {
                Ok(&Identity::Anonymous)
            }
            Identity::Known(_) => Err(Refusal::CredentialRejected(CredentialFault::NotAccepted)),
        }
    }

    fn decide(&self, caller: &Caller<'_>, identity: &Identity) -> Decision {
        self.bundle.decide(&AuthzRequest {
            identity,
            action: &self.route().action,
            module: &self.route().module,
            hint: self.route().hint,
            parameters: &self.parameters,
            class: &self.route().class,
            method: self.method.as_str(),
            client: caller.client,
            tls: caller.tls,
            now: caller.now,
        })
    }
}

impl Decision {
    /// The permit, where there is one.
    ///
    /// # Errors
    /// `Forbidden` with the policies that forbid, or with none where none permits; `Undecidable`.
    pub fn permitted(self) -> Result<Permit, Refusal> {
        match self {
            Self::Permit(permit) => Ok(permit),
            Self::Deny(denial) => Err(Refusal::Forbidden(denial)),
            Self::Undecidable { .. } => Err(Refusal::Undecidable),
        }
    }

    /// The permit on a route. Nobody in particular, whom no policy forbids it, is asked to sign in where the route has a way
    /// to. Whose proof is weaker or older than the route asks is told that first, whatever policy says: a policy may look at
    /// the same proof.
    ///
    /// # Errors
    /// As [`Decision::permitted`], `Unauthenticated`, and `StepUp`, which for an API key is `PersonNeeded`.
    pub fn permitted_on(
        self,
        route: &Route,
        identity: &Identity,
        now: UnixMillis,
    ) -> Result<Permit, Refusal> {
        let accept = route.accept;
        if let Some(refusal) = unproved(route, identity, now) {
            return Err(refusal);
        }
        let open = matches!(&self, Self::Deny(denial) if denial.forbidding.is_empty());
        if open && matches!(identity, Identity::Anonymous) && accept.wants_credential() {
            return Err(Refusal::Unauthenticated);
        }
        self.permitted()
    }
}

/// The refusal of a caller whose proof is less than the route asks for.
fn unproved(route: &Route, identity: &Identity, now: UnixMillis) -> Option<Refusal> {
    let Identity::Known(principal) = identity else { return None };
    let asks = route.step_up.filter(|asks| !asks.is_met_by(principal, now))?;
    Some(Refusal::unproved(asks, principal))
}

impl Accept {
    /// Whether a route looks at any credential.
    #[must_use]
    pub const fn wants_credential(self) -> bool {
        self.session || self.api_key || self.access_token
    }

    /// Whether a route looks at the credential that gave this identity.
    #[must_use]
    pub fn takes(self, identity: &Identity) -> bool {
        match identity {
            Identity::Anonymous => self.anonymous,
            Identity::Known(principal) => match principal.scheme {
                Scheme::Session => self.session,
                Scheme::AccessToken => self.access_token,
                Scheme::ApiKey => self.api_key,
                Scheme::ControlSocket => false,
            },
        }
    }
}

fn concealed(route: &Route, refusal: Refusal) -> Refusal {
    if route.conceal { refusal.concealed() } else { refusal }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bundle::example::{EXAMPLE_CLIENT, EXAMPLE_TIME, example_principal};
    use crate::bundle::tests::fixture::{load, sources, with};
    use crate::identity::{LOCAL_ISSUER, Principal, PrincipalKind};

    fn known(kind: PrincipalKind, roles: &[&str]) -> Identity {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Identity::Known(Arc::new(example_principal(kind, roles, [].into())))
    }

    /// `permit id, id`, or the refusal's code; of a 403 with the policies that forbid.
    fn answer(bundle: &Bundle, line: &str, identity: &Identity) -> String {
        let (method, target) = line.split_once(' ').unwrap();
        let caller = Caller { identity, client: EXAMPLE_CLIENT, tls: true, now: EXAMPLE_TIME };
        let asked = bundle.asked(&method.parse().unwrap(), target);
        match asked.and_then(|asked| asked.permitted(&caller)) {
            Ok(permit) => {
                let ids: Vec<&str> = permit.deciding().iter().map(|by| &*by.id).collect();
                format!("permit {}", ids.join(", "))
            }
            Err(Refusal::Forbidden(Denial { forbidding })) => {
                let ids: Vec<&str> = forbidding.iter().map(|by| &*by.id).collect();
                format!("forbidden {}", ids.join(", ")).trim_end().to_owned()
            }
            Err(refusal) => refusal.code().to_owned(),
        }
    }

    #[test]
    fn a_request_line_and_who_sends_it_make_a_permit_or_a_refusal() {
        let bundle = load(&sources());
        let id = "0b7a4e56-8d3f-4a5b-8c3d-2e1f9f1c4d2e";
        let (reader, editor) =
            (known(PrincipalKind::User, &["reader"]), known(PrincipalKind::User, &["editor"]));
        let service = known(PrincipalKind::Service, &["editor"]);
        let operator = Principal::named(PrincipalKind::Operator, LOCAL_ISSUER, "1000", EXAMPLE_TIME);
        let operator = Identity::Known(Arc::new(operator));
        let check = |line: &str, identity: &Identity, expected: &str| {
            assert_eq!(answer(&bundle, line, identity), expected, "{line}");
        };
        check("GET /api/docs", &reader, "permit docs.readers");
        check("HEAD /api/docs", &reader, "permit docs.readers");
        check("GET /api/docs?page=7", &editor, "permit docs.editors");
        check("GET /api/docs?page=7", &service, "permit docs.editors");
        check("GET /api/docs", &Identity::Anonymous, "unauthenticated");
        check(&format!("PUT /api/docs/{id}"), &reader, "forbidden");
        check("POST /api/docs/import", &editor, "forbidden switch.import");
        check("POST /api/docs/import", &service, "credential_rejected");
        check("GET /api/docs", &operator, "credential_rejected");
        // Concealed: as if there were no such route.
        check(&format!("GET /api/docs/{id}"), &reader, "permit docs.readers");
        check(&format!("GET /api/docs/{id}"), &Identity::Anonymous, "not_found");
        check(&format!("GET /api/docs/{id}"), &known(PrincipalKind::User, &[]), "not_found");
        // For everybody: a session is passed over or looked at, a key is refused.
        check("GET /", &Identity::Anonymous, "permit site.everyone");
        check("GET /", &reader, "permit site.everyone");
        check("GET /", &service, "credential_rejected");
        // The line itself.
        check("GET /no/such", &reader, "not_found");
        check("GET /api/docs/not-an-id", &reader, "not_found");
        check("GET /api/../docs", &reader, "path.dot_segment");
        check("GET /api/docs?page=seven", &reader, "query.bad_value");
        check("GET /api/docs?page=1&page=2", &reader, "query.repeated");
        check("GET /api/docs?user_id=7", &reader, "query.identity");
        check("GET /no/such?a=1&a=2", &reader, "query.repeated");
    }

    #[test]
    fn a_session_that_a_route_for_everybody_does_not_look_at_decides_nothing() {
        let bundle = load(&with(
            "routes/site.toml",
            "accept = [\"anonymous\", \"session\"]",
            "accept = [\"anonymous\"]",
        ));
        let suspended = Principal {
            suspended: true,
            ..example_principal(PrincipalKind::User, ["editor".to_owned()].into(), [].into())
        };
        assert_eq!(
            answer(&bundle, "GET /", &Identity::Known(Arc::new(suspended.clone()))),
            "permit site.everyone"
        );
        // Where it is looked at, the guardrail sees it.
        let looking = load(&sources());
        assert_eq!(
            answer(&looking, "GET /", &Identity::Known(Arc::new(suspended))),
            "forbidden account.suspended"
        );
    }

    #[test]
    fn a_route_that_asks_for_a_stronger_or_fresher_proof_permits_no_other() {
        let row = "{ on = \"POST /api/docs/import\", action = \"docs.import\", accept = [\"session\"]";
        let asking =
            |asks: &str| load(&with("routes/docs.toml", row, &format!("{row}, step_up = {{ {asks} }}")));
        let proved = |assurance, age_ms| {
            let editor = example_principal(PrincipalKind::User, ["editor".to_owned()].into(), [].into());
            let at = UnixMillis(EXAMPLE_TIME.0 - age_ms);
            Identity::Known(Arc::new(Principal { assurance, authenticated_at: at, ..editor }))
        };
        let check = |asks: &str, assurance, age_ms, expected: &str| {
            let (bundle, identity) = (asking(asks), proved(assurance, age_ms));
            let line = "POST /api/docs/import";
            assert_eq!(answer(&bundle, line, &identity), expected, "{asks} {assurance} {age_ms}");
            // Whoever asks for the decision alone is given no permit either.
            let caller = Caller { identity: &identity, client: EXAMPLE_CLIENT, tls: true, now: EXAMPLE_TIME };
            assert!(matches!(
                bundle.asked(&Method::POST, "/api/docs/import").unwrap().by(&caller),
                Decision::Deny(_)
            ));
        };
        // Policy forbids it to everybody: what is asked of the proof is told first.
        check("assurance = 2", 1, 0, "step_up");
        check("assurance = 2", 2, 0, "forbidden switch.import");
        check("max_age_s = 300", 2, 360_001, "step_up");
        check("max_age_s = 300", 1, 360_000, "forbidden switch.import");
        assert_eq!(
            answer(&asking("assurance = 2"), "POST /api/docs/import", &Identity::Anonymous),
            "unauthenticated"
        );
    }

    #[test]
    fn what_is_no_permit_permits_nothing() {
        let undecidable = Decision::Undecidable { erring: vec!["one".to_owned()] };
        assert_eq!(undecidable.permitted().unwrap_err(), Refusal::Undecidable);
        let denial = Denial { forbidding: Vec::new() };
        assert_eq!(Decision::Deny(denial.clone()).permitted().unwrap_err(), Refusal::Forbidden(denial));
        // Who may not ask at all is denied whatever policy would say of nobody in particular.
        let bundle = load(&sources());
        let service = known(PrincipalKind::Service, &["editor"]);
        let caller = Caller { identity: &service, client: EXAMPLE_CLIENT, tls: true, now: EXAMPLE_TIME };
        let asked = bundle.asked(&Method::GET, "/").unwrap();
        assert!(matches!(asked.by(&caller), Decision::Deny(denial) if denial.forbidding.is_empty()));
        let nobody = Caller { identity: &Identity::Anonymous, ..caller };
        assert_eq!(asked.by(&nobody).permitted().unwrap().deciding()[0].id.as_ref(), "site.everyone");
    }
}
