//! What a store is checked for when it is opened.

use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{Mark, OpenError, StoreError};
use crate::keyring::{KeyId, Keyring, Purpose};
use crate::seal::{UnsealError, seal, unseal};

/// The layout of the tables. A store of another layout is refused, never guessed at.
pub(super) const SCHEMA: u64 = 1;

/// What stands sealed under each master that the store was opened with.
const KEY_CHECK: &[u8] = b"cedargate store";

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const KEY_CHECKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("key_checks");

/// Makes the tables that readers expect.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), StoreError> {
    crate::sessions::prepare(transaction)?;
    crate::credentials::prepare_records(transaction)?;
    crate::endings::prepare(transaction)?;
    crate::grants::prepare(transaction)?;
    crate::credentials::prepare_attempts(transaction)
}

/// Checks layout, mark and keys of a store that has them, and writes them into one that is new.
pub(super) fn check(transaction: &WriteTransaction, keyring: &Keyring, mark: Mark) -> Result<(), OpenError> {
    let failed = |error: StoreError| OpenError::Database(error);
    let mut meta = transaction.open_table(META).map_err(|error| failed(error.into()))?;
    let read = |name| -> Result<Option<Vec<u8>>, OpenError> {
        let value = meta.get(name).map_err(|error| failed(error.into()))?;
        Ok(value.map(|value| value.value().to_vec()))
    };
    let (schema, found) = (read("schema")?, read("mark")?);
    match (schema, found) {
        (None, None) => {
            for (name, value) in
                [("schema", SCHEMA.to_be_bytes().as_slice()), ("mark", mark.label().as_bytes())]
            {
                drop(meta.insert(name, value).map_err(|error| failed(error.into()))?);
            }
        }
        (Some(schema), Some(found)) => {
            let schema = schema.try_into().map(u64::from_be_bytes).map_err(|_| OpenError::Damaged)?;
            if schema != SCHEMA {
                return Err(OpenError::UnknownSchema { found: schema });
            }
            let found =
                [Mark::Demo, Mark::Production].into_iter().find(|one| one.label().as_bytes() == found);
            let found = found.ok_or(OpenError::Damaged)?;
            if found != mark {
                return Err(OpenError::WrongMark { found, wanted: mark });
            }
        }
        _ => return Err(OpenError::Damaged),
    }
    check_keys(transaction, keyring)
}

/// Every master that something may be sealed under must be there; the active one is added.
fn check_keys(transaction: &WriteTransaction, keyring: &Keyring) -> Result<(), OpenError> {
    let failed = |error: StoreError| OpenError::Database(error);
    let mut table = transaction.open_table(KEY_CHECKS).map_err(|error| failed(error.into()))?;
    for row in table.iter().map_err(|error| failed(error.into()))? {
        let (id, sealed) = row.map_err(|error| failed(error.into()))?;
        match unseal(keyring, Purpose::KeyCheck, id.value(), sealed.value()) {
            Ok(opened) if opened.as_slice() == KEY_CHECK => {}
            Err(UnsealError::UnknownKey(needed)) => {
                return Err(OpenError::WrongKey { needed: needed.to_string() });
            }
            Ok(_) | Err(UnsealError::Malformed | UnsealError::Broken) => return Err(OpenError::Damaged),
        }
    }
    let KeyId(id) = keyring.active_id();
    if table.get(id.as_slice()).map_err(|error| failed(error.into()))?.is_none() {
        let sealed = seal(keyring, Purpose::KeyCheck, &id, KEY_CHECK);
        let sealed = sealed.map_err(|error| failed(StoreError::Seal(error)))?;
        drop(table.insert(id.as_slice(), sealed.as_slice()).map_err(|error| failed(error.into()))?);
    }
    Ok(())
}
