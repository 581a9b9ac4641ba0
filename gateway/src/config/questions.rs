//! What a configuration leaves open: the bundle that it must fit, and what only a person can answer.

use std::collections::BTreeMap;

use engine::bundle::Bundle;
use engine::route::Target;

use super::Config;
use super::fault::{Fault, Place};
use super::providers::Provider;
use super::reader::printable;
use crate::in_force::{misfits, outdone};

impl Config {
    /// Upstreams that the bundle's routes name and the configuration does not, and the other way round limit classes, and
    /// the roles and groups that providers may assert.
    #[must_use]
    pub fn misses(&self, bundle: &Bundle) -> Vec<Fault> {
        let mut missing: BTreeMap<String, (String, String)> = BTreeMap::new();
        for route in bundle.routes().routes() {
            let asks_for_two = route.step_up.is_some_and(|asks| asks.assurance > 1);
            if asks_for_two && !self.oidc.iter().any(Provider::proves_two_factors) {
                let message =
                    format!("route `{}` asks for a second factor, which nobody could prove", route.name);
                let remedy = "configure a provider with `mfa_acr` or `mfa_amr` (docs/oidc.md), or drop `assurance` from its `step_up`";
                missing.entry("step-up".to_owned()).or_insert((message, remedy.to_owned()));
            }
            if let Target::Upstream(name) = &route.target
                && !self.upstreams.contains_key(name)
            {
                let message =
                    format!("route `{}` goes to upstream `{name}`, which is not configured", route.name);
                let remedy = format!("add [upstreams.{name}] to the configuration");
                missing.entry(format!("upstream {name}")).or_insert((message, remedy));
            }
        }
        missing.extend(misfits(&self.limits, bundle));
        let fault = |place: Place| move |(message, remedy)| Fault { place: place.clone(), message, remedy };
        let routes = Place::File { path: self.policies_dir.join("routes"), line: None };
        let entities = Place::File { path: self.policies_dir.join("entities"), line: None };
        let ungranted = self.ungranted(bundle).into_iter().map(fault(entities));
        missing.into_values().map(fault(routes)).chain(ungranted).collect()
    }

    /// Roles and groups that a provider may assert and nobody knows: a misspelt one would silently give nothing.
    fn ungranted(&self, bundle: &Bundle) -> Vec<(String, String)> {
        let (roles, groups) = (bundle.roles(), bundle.groups());
        let mut strange = Vec::new();
        for provider in &self.oidc {
            let kinds = [("role", &provider.roles, &roles), ("group", &provider.groups, &groups)];
            for (kind, grants, known) in kinds {
                for name in grants.values().filter(|name| !known.contains(*name)) {
                    let message = format!(
                        "provider `{}` may assert the {kind} `{}`, which the bundle does not know",
                        provider.name,
                        printable(name)
                    );
                    let remedy =
                        format!("correct its name, or add it to the {kind}s of the bundle's entities");
                    strange.push((message, remedy));
                }
            }
        }
        strange.dedup();
        strange
    }

    /// Limits that were set here and do nothing, because the bundle names them.
    #[must_use]
    pub fn outdone(&self, bundle: &Bundle) -> Vec<String> {
        outdone(&self.limits, bundle.limits())
    }

    /// What only a person can answer. BotServer believes whoever reaches it, so an upstream off loopback is as safe
    /// as the network before it (threat 5).
    #[must_use]
    pub fn questions(&self) -> Vec<String> {
        let mut questions = Vec::new();
        for (name, upstream) in &self.upstreams {
            let away: Vec<String> = upstream
                .addresses
                .iter()
                .filter(|address| !address.ip().is_loopback())
                .map(ToString::to_string)
                .collect();
            if !away.is_empty() {
                questions.push(format!(
                    "upstream `{name}` listens off loopback at {}: what keeps everybody but this gateway from \
                     connecting to it (a firewall, a network of its own, mutual TLS)?",
                    away.join(", ")
                ));
            }
        }
        if self.tls.is_none() && !self.listen.ip().is_loopback() {
            questions.push(format!(
                "the gateway listens on {} without TLS: what encrypts the way from the clients, and is its address \
                 in `trusted_proxies`?",
                self.listen
            ));
        }
        questions
    }
}
