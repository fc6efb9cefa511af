//! `/v1/devices`: push endpoints, as applications register them.
//!
//! A registration is an upsert, so an application may send it as often as it starts. Everything
//! else that can be done with an endpoint is done with a device's under `/v1/endpoints`.
//!
//! Absent here: subscribing. The device does that with its push service; this is where its address
//! is brought.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use postrider_core::endpoint::Channel;
use postrider_core::id::TenantId;
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::endpoint_in::policy_named;
use super::endpoints::EndpointView;
use crate::channel::registration;
use crate::http::access::Caller;
use crate::http::body::Json;
use crate::http::error::{Problem, ProblemBody};
use crate::http::{Api, blocking};
use crate::registry::model::address;
use crate::registry::policy_body::GuaranteeWord;
use crate::registry::{
    Authorisation, Device, EndpointDraft, FcmTarget, Kind, Registered, Route, TlsProfile,
};

/// Registrations of one request at the most.
const DEVICES_MAX: usize = 1_000;

/// A device, as it registers: exactly one of `web_push`, `apns` and `fcm`.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = NewDevice)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceIn {
    /// The person it belongs to.
    #[serde(default)]
    recipient: String,
    /// Your own words for it.
    #[serde(default)]
    name: String,
    /// Your own id of the device: a new address under the same id takes the old one's place.
    #[serde(default)]
    device_id: String,
    /// `ios`, `android`, `firefox`, …
    #[serde(default)]
    platform: String,
    /// What the application knows of its right to show notifications.
    #[serde(default)]
    authorisation: Option<Authorisation>,
    /// When this was known to be so, RFC 3339; left out: now. What was registered later stays as it
    /// is, so that devices can be imported beside those that register by themselves.
    #[serde(default)]
    refreshed_at: Option<String>,
    /// Event types it subscribes to: `order.paid`, `order.*` or `*`.
    #[serde(default)]
    event_types: Vec<String>,
    /// The route it is reached over, by name. May be left out where the tenant has one for the
    /// channel.
    #[serde(default)]
    route: Option<String>,
    /// The policy its deliveries are admitted under, by name; else that of its channel.
    #[serde(default)]
    policy: Option<String>,
    /// Overrides the policy's guarantee.
    #[serde(default)]
    guarantee: Option<GuaranteeWord>,
    /// A push subscription of a browser.
    #[serde(default)]
    web_push: Option<SubscriptionIn>,
    /// An Apple device.
    #[serde(default)]
    apns: Option<ApnsDeviceIn>,
    /// A device that Firebase Cloud Messaging reaches.
    #[serde(default)]
    fcm: Option<FcmDeviceIn>,
}

/// A push subscription, as `PushSubscription.toJSON()` gives it.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = PushSubscription)]
pub(super) struct SubscriptionIn {
    /// Where the push service takes messages for it.
    endpoint: String,
    /// Its keys.
    keys: SubscriptionKeys,
    /// The key it was made with, `applicationServerKey`. Left out: the route's newest.
    #[serde(default)]
    application_server_key: Option<String>,
    /// The endpoint that this one takes the place of, after a `pushsubscriptionchange`.
    #[serde(default)]
    previous_endpoint: Option<String>,
}

#[derive(Clone, Deserialize, ToSchema)]
struct SubscriptionKeys {
    /// The browser's public key, base64url.
    p256dh: String,
    /// The shared secret, base64url.
    auth: String,
}

/// An Apple device.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = ApnsDevice)]
#[serde(deny_unknown_fields)]
struct ApnsDeviceIn {
    /// The device token, hexadecimal.
    token: String,
    /// The token that this one takes the place of.
    #[serde(default)]
    previous_token: Option<String>,
}

/// A device that Firebase Cloud Messaging reaches: exactly one of `token` and `fid`.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = FcmDevice)]
#[serde(deny_unknown_fields)]
struct FcmDeviceIn {
    /// Its registration token.
    #[serde(default)]
    token: Option<String>,
    /// Its Firebase installation id.
    #[serde(default)]
    fid: Option<String>,
    /// The token that this one takes the place of.
    #[serde(default)]
    previous_token: Option<String>,
}

/// A device, and what its registration came to.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceView {
    /// `created`, `refreshed`, `replaced` or `unchanged`.
    registered: &'static str,
    #[serde(flatten)]
    endpoint: EndpointView,
}

/// Devices to register together, each answered for itself.
#[derive(Deserialize, ToSchema)]
#[schema(as = DeviceBatch)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicesIn {
    /// The devices, 1,000 at most.
    #[schema(value_type = Vec<DeviceIn>)]
    devices: Vec<serde_json::Value>,
}

/// What became of one of a batch.
#[derive(Serialize, ToSchema)]
#[schema(as = DeviceBatchItem)]
pub(super) struct DeviceDone {
    /// The endpoint's id, if it was registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    /// `created`, `refreshed`, `replaced` or `unchanged`.
    #[serde(skip_serializing_if = "Option::is_none")]
    registered: Option<&'static str>,
    /// What was wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    error: Option<serde_json::Value>,
}

/// Register a device, or register it again
#[utoipa::path(
    post, path = "/v1/devices", tag = "devices", request_body = DeviceIn,
    responses(
        (status = 200, body = DeviceView), (status = 201, body = DeviceView),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn register(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Json(device): Json<DeviceIn>,
) -> Result<Response, Problem> {
    let tenant = caller.tenant()?;
    let made = blocking(&api, move |api| register_one(api, tenant, device)).await?;
    let (endpoint, registered) = made?;
    let view = DeviceView {
        registered: word(registered),
        endpoint: api.endpoint_view(&caller, &endpoint),
    };
    let status = match registered {
        Registered::Created => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    Ok((status, axum::Json(view)).into_response())
}

/// Register devices in bulk
#[utoipa::path(
    post, path = "/v1/devices/batch", tag = "devices", request_body = DevicesIn,
    responses(
        (status = 200, body = Vec<DeviceDone>),
        (status = "default", body = ProblemBody, content_type = "application/problem+json")
    )
)]
pub(super) async fn register_batch(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Json(batch): Json<DevicesIn>,
) -> Result<axum::Json<Vec<DeviceDone>>, Problem> {
    let tenant = caller.tenant()?;
    if batch.devices.len() > DEVICES_MAX {
        let count = batch.devices.len().to_string();
        let rule = "must hold at most 1,000 devices";
        return Err(Problem::invalid("devices", &count, rule));
    }
    let done = blocking(&api, move |api| {
        let one = |device| {
            let device = serde_json::from_value(device)
                .map_err(|fault| Problem::invalid("devices", "", SHAPE).detail(fault.to_string()));
            match device.and_then(|device| register_one(api, tenant, device)) {
                Ok((endpoint, registered)) => DeviceDone {
                    id: Some(endpoint.uuid),
                    registered: Some(word(registered)),
                    error: None,
                },
                Err(problem) => DeviceDone {
                    id: None,
                    registered: None,
                    error: serde_json::to_value(problem.body()).ok(),
                },
            }
        };
        batch.devices.into_iter().map(one).collect()
    });
    Ok(axum::Json(done.await?))
}

const SHAPE: &str = "must be a device as POST /v1/devices takes it";
const ONE_OF: &str = "must be given, or `apns`, or `fcm`: exactly one of them";

fn word(registered: Registered) -> &'static str {
    match registered {
        Registered::Created => "created",
        Registered::Refreshed => "refreshed",
        Registered::Replaced => "replaced",
        Registered::Unchanged => "unchanged",
    }
}

fn register_one(
    api: &Api,
    tenant: TenantId,
    device: DeviceIn,
) -> Result<(Arc<crate::registry::Endpoint>, Registered), Problem> {
    let now = api.intake.now();
    let (draft, previous) = device.draft(api, tenant, now)?;
    Ok(api.registry.register_device(tenant, draft, previous, now)?)
}

impl DeviceIn {
    fn channel(&self) -> Result<Channel, Problem> {
        match (&self.web_push, &self.apns, &self.fcm) {
            (Some(_), None, None) => Ok(Channel::WebPush),
            (None, Some(_), None) => Ok(Channel::Apns),
            (None, None, Some(_)) => Ok(Channel::Fcm),
            _ => Err(Problem::invalid("web_push", "", ONE_OF)),
        }
    }

    fn route(&self, api: &Api, tenant: TenantId, channel: Channel) -> Result<Arc<Route>, Problem> {
        let rule = "must be the name of a route of the device's channel; see /v1/routes";
        let fits = |route: &Arc<Route>| route.credentials.channel() == channel;
        if let Some(name) = &self.route {
            let route = api.registry.route_named(tenant, name).filter(fits);
            return route.ok_or_else(|| Problem::invalid("route", name, rule));
        }
        let mut routes = api.registry.routes(tenant);
        routes.retain(fits);
        match routes.len() {
            1 => Ok(routes.remove(0)),
            _ => Err(Problem::invalid("route", "", rule)),
        }
    }

    /// When this was known to be so.
    fn known_at(&self, now: Time) -> Result<Time, Problem> {
        let Some(text) = &self.refreshed_at else {
            return Ok(now);
        };
        let at: Option<jiff::Timestamp> = text.parse().ok();
        let at = at.map(|at| Time(at.as_millisecond()));
        at.filter(|at| *at <= now).ok_or_else(|| {
            let rule = "must be a moment as RFC 3339 writes it, not in the future";
            Problem::invalid("refreshed_at", text, rule)
        })
    }

    /// The endpoint that this asks for, and the address that it takes the place of.
    fn draft(
        self,
        api: &Api,
        tenant: TenantId,
        now: Time,
    ) -> Result<(EndpointDraft, Option<[u8; 16]>), Problem> {
        let at = self.known_at(now)?;
        let channel = self.channel()?;
        let route = self.route(api, tenant, channel)?;
        let place = self.place(api, &route)?;
        let policy = self.policy.as_deref().unwrap_or(channel.name());
        let draft = EndpointDraft {
            url: place.url,
            kind: place.kind,
            route: Some(route.id),
            device: Some(Device {
                id: self.device_id,
                platform: self.platform,
                authorisation: self.authorisation.map(|said| (said, at.0)),
                refreshed_at: at,
                ..Device::default()
            }),
            name: self.name,
            recipient: self.recipient,
            event_types: self.event_types,
            policy: policy_named(api, policy)?,
            guarantee: self.guarantee.map(Guarantee::from),
            rate: None,
            slots_max: None,
            secret: None,
            tls: TlsProfile::default(),
            headers: Vec::new(),
        };
        Ok((draft, place.previous))
    }

    fn place(&self, api: &Api, route: &Route) -> Result<Place, Problem> {
        let unfit = |fault: registration::Unfit| {
            Problem::invalid(fault.field, &fault.value, fault.rule).detail(fault.detail)
        };
        if let Some(subscription) = &self.web_push {
            let reach = (&api.push_hosts[..], api.allow_http);
            let keys = &subscription.keys;
            let (url, kind) = registration::web_push(
                route,
                reach,
                &subscription.endpoint,
                [&keys.p256dh, &keys.auth],
                subscription.application_server_key.as_deref(),
            )
            .map_err(unfit)?;
            let previous = subscription.previous_endpoint.as_deref();
            let previous = previous.and_then(|url| url.parse().ok());
            let previous = previous.map(|url| address(&kind, &url));
            return Ok(Place {
                url,
                kind,
                previous,
            });
        }
        let (made, previous) = match (&self.apns, &self.fcm) {
            (Some(device), _) => {
                let made = registration::apns(route, &device.token);
                let previous = device.previous_token.as_deref();
                (
                    made,
                    previous.and_then(|old| registration::apns(route, old).ok()),
                )
            }
            (None, Some(device)) => {
                let target = device.target()?;
                let previous = device.previous_token.clone().map(FcmTarget::Token);
                let previous = previous.and_then(|old| registration::fcm(route, old).ok());
                (registration::fcm(route, target), previous)
            }
            (None, None) => return Err(Problem::invalid("web_push", "", ONE_OF)),
        };
        let (url, kind) = made.map_err(unfit)?;
        Ok(Place {
            url,
            kind,
            previous: previous.map(|(url, kind)| address(&kind, &url)),
        })
    }
}

/// Where a device is, and where it was.
struct Place {
    url: url::Url,
    kind: Kind,
    previous: Option<[u8; 16]>,
}

impl FcmDeviceIn {
    fn target(&self) -> Result<FcmTarget, Problem> {
        match (&self.token, &self.fid) {
            (Some(token), None) => Ok(FcmTarget::Token(token.clone())),
            (None, Some(fid)) => Ok(FcmTarget::Fid(fid.clone())),
            _ => {
                let rule = "must be given, or `fid`: exactly one of them";
                Err(Problem::invalid("fcm.token", "", rule))
            }
        }
    }
}
