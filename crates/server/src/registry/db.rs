//! `control.db`: one connection, one durable commit for each change.
//!
//! What identifies or opens something (URL, headers, secrets, client key) is sealed under the
//! master key, bound to the row's outer id. Stored numbers and JSON field names are frozen.
//!
//! Absent here: deciding, and anything that changes with traffic but the time of a key's last use.

use std::path::Path;
use std::sync::Arc;

use postrider_core::cause::Cause;
use postrider_core::id::{EndpointId, PolicyId, RouteId, TenantId};
use postrider_core::policy::{Guarantee, Policy};
use postrider_core::time::Time;
use rusqlite::{Connection, Row, params};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RegistryError;
use super::directory::Directory;
use super::keys::{ApiKey, KeyPace, KeyRing, Role};
use super::model::{Device, Endpoint, EndpointState, Kind, Secret, TlsProfile, TlsVersion};
use super::policies::Policies;
use super::policy_body::{GuaranteeWord, PolicyBody, RateBody};
use super::routes::{Route, Routes};
use super::tenants::{Tenant, Tenants};
use crate::vault::Cipher;

/// "PRct": what makes a SQLite file ours.
const APPLICATION_ID: i32 = 0x5052_6374;

/// Each step takes the file from the version before it. Steps are never changed, only added.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE tenant (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE api_key (
    id INTEGER PRIMARY KEY,
    hash BLOB NOT NULL,
    name TEXT NOT NULL,
    role INTEGER NOT NULL,
    tenant INTEGER REFERENCES tenant (id),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE policy (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE TABLE endpoint (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    tenant INTEGER NOT NULL REFERENCES tenant (id),
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    open TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
",
    "
CREATE TABLE route (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uuid BLOB NOT NULL UNIQUE,
    tenant INTEGER NOT NULL REFERENCES tenant (id),
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    open TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT;
",
];

/// The version of the schema that this program writes.
const SCHEMA: u32 = MIGRATIONS.len() as u32;

pub(super) struct Db {
    connection: Connection,
}

impl Db {
    pub(super) fn open(path: &Path) -> Result<Db, RegistryError> {
        Db::prepare(Connection::open(path)?)
    }

    pub(super) fn in_memory() -> Result<Db, RegistryError> {
        Db::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> Result<Db, RegistryError> {
        let application: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: u32 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let empty = version == 0 && application == 0 && tables == 0;
        if !empty && application != APPLICATION_ID {
            return Err(RegistryError::Unreadable(
                "this file belongs to another program".into(),
            ));
        }
        if version > SCHEMA {
            return Err(RegistryError::Unreadable(format!(
                "this file was written by a newer version of postrider (schema {version}, this \
                 version knows {SCHEMA})"
            )));
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", "ON")?;
        let steps = connection.transaction()?;
        for step in MIGRATIONS.iter().skip(version as usize) {
            steps.execute_batch(step)?;
        }
        steps.pragma_update(None, "user_version", SCHEMA)?;
        steps.pragma_update(None, "application_id", APPLICATION_ID)?;
        steps.commit()?;
        Ok(Db { connection })
    }

    pub(super) fn insert_tenant(&mut self, tenant: &Tenant) -> Result<TenantId, RegistryError> {
        self.connection.execute(
            "INSERT INTO tenant (uuid, name, created_at) VALUES (?1, ?2, ?3)",
            params![tenant.uuid.as_bytes(), tenant.name, tenant.created_at.0],
        )?;
        let id = self.connection.last_insert_rowid();
        let unreadable = |_| RegistryError::Unreadable("there are too many tenants".into());
        Ok(TenantId(u32::try_from(id).map_err(unreadable)?))
    }

    pub(super) fn load_tenants(&mut self) -> Result<Tenants, RegistryError> {
        let mut tenants = Tenants::default();
        let mut rows = self
            .connection
            .prepare("SELECT id, uuid, name, created_at FROM tenant ORDER BY id")?;
        let rows = rows.query_map([], |row| {
            Ok(Tenant {
                id: TenantId(row.get(0)?),
                uuid: Uuid::from_bytes(row.get(1)?),
                name: row.get(2)?,
                created_at: Time(row.get(3)?),
            })
        })?;
        for tenant in rows {
            tenants.add(tenant?);
        }
        Ok(tenants)
    }

    pub(super) fn insert_key(&mut self, key: &ApiKey) -> Result<(), RegistryError> {
        self.connection.execute(
            "INSERT INTO api_key (id, hash, name, role, tenant, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                key.id.cast_signed(),
                key.hash,
                key.name,
                key.role as u8,
                key.tenant.map(|tenant| tenant.0),
                key.created_at.0,
                key.expires_at.map(|at| at.0),
            ],
        )?;
        Ok(())
    }

    pub(super) fn revoke_key(&mut self, id: u64, at: Time) -> Result<(), RegistryError> {
        self.connection.execute(
            "UPDATE api_key SET revoked_at = ?2 WHERE id = ?1",
            params![id.cast_signed(), at.0],
        )?;
        Ok(())
    }

    pub(super) fn write_last_used(&mut self, used: &[(u64, i64)]) -> Result<(), RegistryError> {
        let all = self.connection.transaction()?;
        for (id, at) in used {
            all.prepare_cached("UPDATE api_key SET last_used_at = ?2 WHERE id = ?1")?
                .execute(params![id.cast_signed(), at])?;
        }
        all.commit()?;
        Ok(())
    }

    pub(super) fn load_keys(&mut self, pace: KeyPace) -> Result<KeyRing, RegistryError> {
        let mut rows = self.connection.prepare(
            "SELECT id, hash, name, role, tenant, created_at, expires_at, revoked_at, last_used_at
             FROM api_key",
        )?;
        let rows = rows.query_map([], |row| {
            let role: u8 = row.get(3)?;
            let role = Role::from_number(role)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(3, i64::from(role)))?;
            let key = ApiKey::of_row(
                row.get::<_, i64>(0)?.cast_unsigned(),
                row.get(1)?,
                row.get(2)?,
                role,
                row.get::<_, Option<u32>>(4)?.map(TenantId),
                Time(row.get(5)?),
                row.get::<_, Option<i64>>(6)?.map(Time),
                row.get::<_, Option<i64>>(7)?.map(Time),
                row.get(8)?,
                pace,
            );
            Ok((key.id, Arc::new(key)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(super) fn insert_policy(
        &mut self,
        policy: &Policy,
        now: Time,
    ) -> Result<(), RegistryError> {
        let body = json(&PolicyBody::from(policy))?;
        self.connection.execute(
            "INSERT INTO policy (id, name, body, created_at) VALUES (?1, ?2, ?3, ?4)",
            params![policy.id.0, &*policy.name, body, now.0],
        )?;
        Ok(())
    }

    pub(super) fn load_policies(&mut self) -> Result<Policies, RegistryError> {
        let mut policies = Policies::default();
        let mut rows = self
            .connection
            .prepare("SELECT id, name, body FROM policy ORDER BY id")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let (id, name, body): (u32, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let unreadable =
                |error| RegistryError::Unreadable(format!("policy {id} ({name}): {error}"));
            let body: PolicyBody = serde_json::from_str(&body).map_err(unreadable)?;
            policies.push(body.into_policy(PolicyId(id), &name));
        }
        Ok(policies)
    }

    /// Writes new endpoints in one commit and gives them their ids.
    pub(super) fn insert_endpoints(
        &mut self,
        endpoints: &mut [Endpoint],
        cipher: &Cipher,
    ) -> Result<(), RegistryError> {
        let all = self.connection.transaction()?;
        for endpoint in endpoints.iter_mut() {
            all.prepare_cached(
                "INSERT INTO endpoint
                    (uuid, tenant, revision, created_at, updated_at, open, sealed)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                endpoint.uuid.as_bytes(),
                endpoint.tenant.0,
                endpoint.revision.cast_signed(),
                endpoint.created_at.0,
                endpoint.updated_at.0,
                json(&OpenPart::of(endpoint))?,
                seal(endpoint, cipher)?,
            ])?;
            endpoint.id = EndpointId(all.last_insert_rowid().cast_unsigned());
        }
        all.commit()?;
        Ok(())
    }

    /// Writes changed endpoints in one commit.
    pub(super) fn update_endpoints(
        &mut self,
        endpoints: &[Endpoint],
        cipher: &Cipher,
    ) -> Result<(), RegistryError> {
        let all = self.connection.transaction()?;
        for endpoint in endpoints {
            write_endpoint(&all, endpoint, cipher)?;
        }
        all.commit()?;
        Ok(())
    }

    /// Removes endpoints in one commit. Their ids are not given out again.
    pub(super) fn remove_endpoints(&mut self, ids: &[EndpointId]) -> Result<(), RegistryError> {
        let all = self.connection.transaction()?;
        for id in ids {
            let id = id.0.cast_signed();
            all.execute("DELETE FROM endpoint WHERE id = ?1", [id])?;
        }
        all.commit()?;
        Ok(())
    }

    pub(super) fn insert_route(
        &mut self,
        route: &Route,
        uuid: Uuid,
        cipher: &Cipher,
    ) -> Result<RouteId, RegistryError> {
        self.connection.execute(
            "INSERT INTO route (uuid, tenant, revision, created_at, updated_at, open, sealed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                uuid.as_bytes(),
                route.tenant.0,
                route.revision.cast_signed(),
                route.created_at.0,
                route.updated_at.0,
                json(&route.open_part())?,
                seal_route(route, uuid, cipher)?,
            ],
        )?;
        let id = self.connection.last_insert_rowid();
        let unreadable = |_| RegistryError::Unreadable("there are too many routes".into());
        Ok(RouteId(u32::try_from(id).map_err(unreadable)?))
    }

    pub(super) fn update_route(
        &mut self,
        route: &Route,
        cipher: &Cipher,
    ) -> Result<(), RegistryError> {
        let uuid = self.connection.query_row(
            "SELECT uuid FROM route WHERE id = ?1",
            [route.id.0],
            |row| row.get(0).map(Uuid::from_bytes),
        )?;
        self.connection.execute(
            "UPDATE route SET revision = ?2, updated_at = ?3, open = ?4, sealed = ?5
             WHERE id = ?1",
            params![
                route.id.0,
                route.revision.cast_signed(),
                route.updated_at.0,
                json(&route.open_part())?,
                seal_route(route, uuid, cipher)?,
            ],
        )?;
        Ok(())
    }

    pub(super) fn load_routes(&mut self, cipher: &Cipher) -> Result<Routes, RegistryError> {
        let mut routes = Routes::default();
        let mut rows = self.connection.prepare(
            "SELECT id, uuid, tenant, revision, created_at, updated_at, open, sealed
             FROM route ORDER BY id",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            let id: u32 = row.get(0)?;
            let damaged = |what: &str| RegistryError::Unreadable(format!("route {id}: {what}"));
            let uuid = Uuid::from_bytes(row.get(1)?);
            let open = serde_json::from_str(row.get_ref(6)?.as_str().unwrap_or_default())
                .map_err(|_| damaged("its settings are damaged"))?;
            let sealed = row.get_ref(7)?.as_blob().unwrap_or_default();
            let plain = cipher
                .open(&route_context(uuid), sealed)
                .map(zeroize::Zeroizing::new)
                .map_err(|_| damaged("the master key does not open it"))?;
            let sealed = serde_json::from_slice(&plain)
                .map_err(|_| damaged("its credentials are damaged"))?;
            let times = (
                row.get::<_, i64>(3)?.cast_unsigned(),
                Time(row.get(4)?),
                Time(row.get(5)?),
            );
            let tenant = TenantId(row.get(2)?);
            let route = Route::of_parts(RouteId(id), tenant, times, open, sealed);
            routes.put(Arc::new(route));
        }
        Ok(routes)
    }

    pub(super) fn load_endpoints(&mut self, cipher: &Cipher) -> Result<Directory, RegistryError> {
        let mut directory = Directory::default();
        let mut rows = self.connection.prepare(
            "SELECT id, uuid, tenant, revision, created_at, updated_at, open, sealed
             FROM endpoint ORDER BY id",
        )?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            directory.put(Arc::new(read_endpoint(row, cipher)?));
        }
        Ok(directory)
    }
}

/// What of an endpoint lies in the clear.
#[derive(Serialize, Deserialize)]
struct OpenPart {
    name: String,
    recipient: String,
    event_types: Vec<String>,
    policy: u32,
    guarantee: Option<GuaranteeWord>,
    rate: Option<RateBody>,
    slots_max: Option<u16>,
    tls_1_2: bool,
    ca_pem: Option<String>,
    client_cert_pem: Option<String>,
    paused: Option<(String, i64)>,
    retired: Option<(u8, i64)>,
    #[serde(default)]
    route: Option<u32>,
    #[serde(default)]
    device: Option<Device>,
}

/// What of an endpoint is sealed.
#[derive(Serialize, Deserialize)]
struct SealedPart {
    url: String,
    headers: Vec<(String, String)>,
    /// Value, created at, expires at.
    secrets: Vec<(String, i64, Option<i64>)>,
    client_key_pem: Option<String>,
    #[serde(default = "webhook")]
    kind: Kind,
}

fn webhook() -> Kind {
    Kind::Webhook
}

impl OpenPart {
    fn of(endpoint: &Endpoint) -> OpenPart {
        let (paused, retired) = match &endpoint.state {
            EndpointState::Active => (None, None),
            EndpointState::Paused { reason, at } => (Some((reason.clone(), at.0)), None),
            EndpointState::Retired { cause, at } => (None, Some((cause.number(), at.0))),
        };
        OpenPart {
            name: endpoint.name.clone(),
            recipient: endpoint.recipient.clone(),
            event_types: endpoint.event_types.clone(),
            policy: endpoint.policy.0,
            guarantee: endpoint.guarantee.map(GuaranteeWord::from),
            rate: endpoint.rate.map(RateBody::from),
            slots_max: endpoint.slots_max,
            tls_1_2: endpoint.tls.min_version == TlsVersion::V1_2,
            ca_pem: endpoint.tls.ca_pem.clone(),
            client_cert_pem: endpoint.tls.client_cert_pem.clone(),
            paused,
            retired,
            route: endpoint.route.map(|route| route.0),
            device: endpoint.device.clone(),
        }
    }

    fn state(&self) -> Option<EndpointState> {
        match (&self.paused, self.retired) {
            (_, Some((cause, at))) => Some(EndpointState::Retired {
                cause: Cause::from_number(cause)?,
                at: Time(at),
            }),
            (Some((reason, at)), None) => Some(EndpointState::Paused {
                reason: reason.clone(),
                at: Time(*at),
            }),
            (None, None) => Some(EndpointState::Active),
        }
    }
}

fn seal(endpoint: &Endpoint, cipher: &Cipher) -> Result<Vec<u8>, RegistryError> {
    let expose = |secret: &Secret| {
        let ends = secret.expires_at.map(|at| at.0);
        (
            secret.value.expose_secret().to_owned(),
            secret.created_at.0,
            ends,
        )
    };
    let part = SealedPart {
        url: endpoint.url.to_string(),
        headers: endpoint.headers.clone(),
        secrets: endpoint.secrets.iter().map(expose).collect(),
        client_key_pem: endpoint
            .tls
            .client_key_pem
            .as_ref()
            .map(|pem| pem.expose_secret().to_owned()),
        kind: endpoint.kind.clone(),
    };
    let plain = zeroize::Zeroizing::new(json(&part)?.into_bytes());
    Ok(cipher.seal(&context(endpoint.uuid), &plain))
}

fn write_endpoint(
    to: &Connection,
    endpoint: &Endpoint,
    cipher: &Cipher,
) -> Result<(), RegistryError> {
    to.prepare_cached(
        "UPDATE endpoint SET revision = ?2, updated_at = ?3, open = ?4, sealed = ?5
         WHERE id = ?1",
    )?
    .execute(params![
        endpoint.id.0.cast_signed(),
        endpoint.revision.cast_signed(),
        endpoint.updated_at.0,
        json(&OpenPart::of(endpoint))?,
        seal(endpoint, cipher)?,
    ])?;
    Ok(())
}

fn seal_route(route: &Route, uuid: Uuid, cipher: &Cipher) -> Result<Vec<u8>, RegistryError> {
    let plain = zeroize::Zeroizing::new(json(&route.sealed_part())?.into_bytes());
    Ok(cipher.seal(&route_context(uuid), &plain))
}

fn route_context(uuid: Uuid) -> Vec<u8> {
    [&b"route/v1/"[..], uuid.as_bytes()].concat()
}

/// Binds what is sealed to its row, so that rows cannot be swapped.
fn context(uuid: Uuid) -> Vec<u8> {
    [&b"endpoint/v1/"[..], uuid.as_bytes()].concat()
}

fn read_endpoint(row: &Row<'_>, cipher: &Cipher) -> Result<Endpoint, RegistryError> {
    let id: i64 = row.get(0)?;
    let damaged = |what: &str| RegistryError::Unreadable(format!("endpoint {id}: {what}"));
    let uuid = Uuid::from_bytes(row.get(1)?);
    let open: OpenPart = serde_json::from_str(row.get_ref(6)?.as_str().unwrap_or_default())
        .map_err(|_| damaged("its settings are damaged"))?;
    let plain = cipher
        .open(
            &context(uuid),
            row.get_ref(7)?.as_blob().unwrap_or_default(),
        )
        .map(zeroize::Zeroizing::new)
        .map_err(|_| damaged("the master key does not open it"))?;
    let sealed: SealedPart =
        serde_json::from_slice(&plain).map_err(|_| damaged("its secrets are damaged"))?;
    let secret = |(value, created_at, expires_at): (String, i64, Option<i64>)| Secret {
        value: value.into(),
        created_at: Time(created_at),
        expires_at: expires_at.map(Time),
    };
    Ok(Endpoint {
        id: EndpointId(id.cast_unsigned()),
        uuid,
        tenant: TenantId(row.get(2)?),
        url: sealed
            .url
            .parse()
            .map_err(|_| damaged("its URL is damaged"))?,
        state: open
            .state()
            .ok_or_else(|| damaged("its state is of a newer version"))?,
        kind: sealed.kind,
        route: open.route.map(RouteId),
        device: open.device,
        name: open.name,
        recipient: open.recipient,
        event_types: open.event_types,
        policy: PolicyId(open.policy),
        guarantee: open.guarantee.map(Guarantee::from),
        rate: open.rate.map(Into::into),
        slots_max: open.slots_max,
        secrets: sealed.secrets.into_iter().map(secret).collect(),
        tls: TlsProfile {
            min_version: if open.tls_1_2 {
                TlsVersion::V1_2
            } else {
                TlsVersion::V1_3
            },
            ca_pem: open.ca_pem,
            client_cert_pem: open.client_cert_pem,
            client_key_pem: sealed.client_key_pem.map(Into::into),
        },
        headers: sealed.headers,
        created_at: Time(row.get(4)?),
        updated_at: Time(row.get(5)?),
        revision: row.get::<_, i64>(3)?.cast_unsigned(),
    })
}

fn json(value: &impl Serialize) -> Result<String, RegistryError> {
    serde_json::to_string(value).map_err(|error| RegistryError::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::OptionalExtension;

    #[test]
    fn a_foreign_or_newer_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.db");
        drop(Db::open(&path).unwrap());
        drop(Db::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = Db::open(&path).err().unwrap().to_string();
        assert!(error.contains("newer version"), "{error}");
        connection.pragma_update(None, "application_id", 7).unwrap();
        let error = Db::open(&path).err().unwrap().to_string();
        assert!(error.contains("another program"), "{error}");
        std::fs::write(dir.path().join("noise"), [7; 4096]).unwrap();
        assert!(Db::open(&dir.path().join("noise")).is_err());
    }

    #[test]
    fn commits_survive_power_loss() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("control.db")).unwrap();
        let pragma = |name: &str| -> String {
            db.connection
                .query_row(&format!("PRAGMA {name}"), [], |row| {
                    row.get::<_, rusqlite::types::Value>(0)
                        .map(|value| format!("{value:?}"))
                })
                .optional()
                .unwrap()
                .unwrap_or_default()
        };
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("synchronous"), "Integer(2)");
    }
}
