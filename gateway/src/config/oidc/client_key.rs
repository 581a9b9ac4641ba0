//! How we prove to a provider who we are: `client_key` and `client_key_id`, in the place of `client_secret`.

use std::sync::Arc;

use super::super::client_key::ClientKey;
use super::super::providers::Preset;
use super::super::reader::{Reader, Section};
use super::TEXT_BYTES_MAX;

impl Reader<'_> {
    /// The key that an entry names, where it names one, and whether it has any proof of who we are. `Err` where something is
    /// written and is none.
    pub(super) fn client_key(
        &mut self,
        table: &mut Section<'_>,
        has_secret: bool,
        preset: Preset,
    ) -> (Result<Option<Arc<ClientKey>>, ()>, bool) {
        let key = self.key_of_client(table, has_secret, preset);
        let has_proof = has_secret || key.as_ref().map_or(true, Option::is_some);
        (key, has_proof)
    }

    fn key_of_client(
        &mut self,
        table: &mut Section<'_>,
        has_secret: bool,
        preset: Preset,
    ) -> Result<Option<Arc<ClientKey>>, ()> {
        let id = self.pick(table, "client_key_id", None);
        let named = id.as_ref().map(|id| id.place.clone());
        let id = self.bounded(id, TEXT_BYTES_MAX);
        let Some(written) = self.pick(table, "client_key", None) else {
            if let Some(place) = named {
                let message = format!("`{}` names a key that is not there", table.path());
                self.fault(place, message, "add `client_key`, or remove `client_key_id`");
            }
            return Ok(None);
        };
        let (name, place) = (written.name.clone(), written.place.clone());
        if preset == Preset::Entra {
            // It would be refused at the first sign-in, and not before: nothing at the provider says so beforehand.
            let message = format!(
                "{name} is not taken by Entra ID, which wants a certificate named in each assertion, and its own address"
            );
            self.fault(place, message, "write `client_secret`");
            return Err(());
        }
        if has_secret {
            let message = format!("`{}` has `client_secret` and `client_key`", table.path());
            self.fault(place.clone(), message, "keep the one by which the provider knows this client");
        }
        let pem = self.secret_text(written).ok_or(())?;
        match ClientKey::parse(&pem, id) {
            Ok(key) => Ok(Some(Arc::new(key))),
            Err(fault) => {
                let remedy = "make one with `openssl genpkey -algorithm ed25519`, or convert it with `openssl pkcs8 -topk8 -nocrypt`";
                self.fault(place, format!("{name} is not taken: {fault}"), remedy);
                Err(())
            }
        }
    }
}
