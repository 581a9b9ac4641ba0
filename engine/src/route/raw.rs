//! Route files as they are written, before anything is judged.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{Fact, Page, ParamType};
use crate::path::Leniencies;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) module: Spanned<String>,
    pub(super) upstream: Option<Spanned<String>>,
    pub(super) pages: Option<Spanned<bool>>,
    pub(super) accept: Option<Vec<Scheme>>,
    pub(super) class: Option<Spanned<String>>,
    pub(super) legacy_bearer: Option<LegacyBearer>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Spanned<TypeName>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) on: String,
    pub(super) action: String,
    pub(super) accept: Option<Vec<Scheme>>,
    pub(super) step_up: Option<StepUpRow>,
    pub(super) class: Option<String>,
    pub(super) cost: Option<u32>,
    #[serde(default)]
    pub(super) conceal: bool,
    #[serde(default)]
    pub(super) audited: bool,
    #[serde(default)]
    pub(super) websocket: bool,
    pub(super) body_bytes_max: Option<u64>,
    pub(super) deadline_s: Option<u32>,
    #[serde(default)]
    pub(super) leniencies: Vec<Leniency>,
    #[serde(default)]
    pub(super) sandbox: bool,
    #[serde(default)]
    pub(super) service_worker: bool,
    #[serde(default)]
    pub(super) client_sets: Vec<String>,
    #[serde(default)]
    pub(super) sets: BTreeMap<String, Fact>,
    #[serde(default)]
    pub(super) named: Vec<String>,
    #[serde(default)]
    pub(super) names: Vec<String>,
    #[serde(default)]
    pub(super) query: BTreeMap<String, TypeName>,
    #[serde(default)]
    pub(super) cookies_up: Vec<String>,
    #[serde(default)]
    pub(super) cookies_down: Vec<String>,
    #[serde(default)]
    pub(super) headers_allowed: Vec<String>,
    #[serde(default)]
    pub(super) destinations: Vec<String>,
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, TypeName>,
    pub(super) page: Option<PageName>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUpRow {
    pub(super) assurance: Option<u8>,
    pub(super) max_age_s: Option<u32>,
    #[serde(default)]
    pub(super) services: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Scheme {
    Anonymous,
    Session,
    ApiKey,
    AccessToken,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum LegacyBearer {
    Drop,
    Refuse,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Leniency {
    EncodedSlash,
    Semicolon,
    EncodedPercent,
    UrlInTail,
    RepeatedQuery,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PageName {
    SignIn,
    SignInSubmit,
    OidcStart,
    OidcCallback,
    OidcLogout,
    SignOut,
    SignOutSubmit,
    WhoAmI,
    Keys,
    Style,
}

#[derive(Clone, Deserialize)]
#[serde(untagged, expecting = "a type is \"uuid\", \"int\", \"slug\", \"text\" or a list of values")]
pub(super) enum TypeName {
    Named(Primitive),
    Listed(Vec<String>),
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Primitive {
    Uuid,
    Int,
    Slug,
    Text,
}

impl TypeName {
    pub(super) fn resolve(&self) -> ParamType {
        match self {
            Self::Named(Primitive::Uuid) => ParamType::Uuid,
            Self::Named(Primitive::Int) => ParamType::Int,
            Self::Named(Primitive::Slug) => ParamType::Slug,
            Self::Named(Primitive::Text) => ParamType::Text,
            Self::Listed(values) => ParamType::Enum(values.clone()),
        }
    }
}

impl PageName {
    pub(super) fn resolve(self) -> Page {
        match self {
            Self::SignIn => Page::SignIn,
            Self::SignInSubmit => Page::SignInSubmit,
            Self::OidcStart => Page::OidcStart,
            Self::OidcCallback => Page::OidcCallback,
            Self::OidcLogout => Page::OidcLogout,
            Self::SignOut => Page::SignOut,
            Self::SignOutSubmit => Page::SignOutSubmit,
            Self::WhoAmI => Page::WhoAmI,
            Self::Keys => Page::Keys,
            Self::Style => Page::Style,
        }
    }
}

pub(super) fn leniencies(named: &[Leniency]) -> Leniencies {
    let mut set = Leniencies::default();
    for leniency in named {
        match leniency {
            Leniency::EncodedSlash => set.encoded_slash = true,
            Leniency::Semicolon => set.semicolon = true,
            Leniency::EncodedPercent => set.encoded_percent = true,
            Leniency::UrlInTail => set.url_in_tail = true,
            Leniency::RepeatedQuery => set.repeated_query = true,
        }
    }
    set
}
