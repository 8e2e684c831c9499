//! One watch of the API server, which is renewed and retried until its receiver is closed. An object that cannot be parsed
//! affects no other object.

use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::mpsc;

use crate::objects::{Object, ObjectKey, Tabled, Unparsable, UnparsableStage, for_kind, recorded_access_keys};
use crate::watch::event::{Change, Failure, Scope, WatchEvent};

/// A watch is renewed after this time, so that a connection that is lost without notice is detected by the
/// client's read timeout.
const WATCH_SECONDS: u32 = 50;

/// One watch.
pub(super) struct Follow {
    pub(super) client: Client,
    pub(super) scope: Scope,
    pub(super) watch: u64,
    /// Whether the kind may be absent, and how often it is looked for then.
    pub(super) while_absent: Option<Duration>,
    pub(super) events: mpsc::Sender<WatchEvent>,
}

impl Follow {
    /// Sends the changes of the objects until the receiver is closed.
    pub(super) async fn run(self) {
        for_kind!(self.scope.kind(), K => self.follow::<K>().await);
    }

    /// False: the receiver is closed.
    async fn send(&self, change: Change) -> bool {
        self.events.send(WatchEvent { scope: self.scope.clone(), watch: self.watch, change }).await.is_ok()
    }

    async fn follow<K>(self)
    where
        K: Tabled,
        Object: From<K>,
    {
        let mut served = true;
        while self.watch_once::<K>(&mut served).await {
            tokio::time::sleep(self.while_absent.unwrap_or_default()).await;
        }
    }

    /// Watches until the API server does not serve the kind (true), if that may be, or the receiver is closed (false).
    async fn watch_once<K>(&self, served: &mut bool) -> bool
    where
        K: Tabled,
        Object: From<K>,
    {
        let resource = ApiResource::erase::<K>(&());
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        let (api, config): (Api<DynamicObject>, _) = match &self.scope {
            Scope::All(_) => (Api::all_with(self.client.clone(), &resource), config.any_semantic()),
            Scope::One(_, key) => {
                let config = config.fields(&format!("metadata.name={}", key.name));
                (Api::namespaced_with(self.client.clone(), &key.namespace, &resource), config)
            }
        };
        let kind = K::KIND;
        let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
        let mut list = Vec::new();
        while let Some(event) = stream.next().await {
            let change = match event {
                Err(error) if self.while_absent.is_some() && status_code(&error) == Some(404) => {
                    if std::mem::take(served) {
                        tracing::info!(%kind, "the API server does not serve this kind; watching for it to appear");
                    }
                    return self.send(Change::NotServed).await;
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(scope = %self.scope, %error, cause, "watch failed; retrying");
                    Change::Failed(failure(&error))
                }
                Ok(watcher::Event::Init) => {
                    list = Vec::new();
                    continue;
                }
                Ok(watcher::Event::InitApply(object)) => {
                    list.push(parse::<K>(object));
                    continue;
                }
                Ok(watcher::Event::InitDone) => {
                    if !std::mem::replace(served, true) {
                        tracing::info!(%kind, "the API server serves this kind now");
                    }
                    Change::All(std::mem::take(&mut list))
                }
                Ok(watcher::Event::Apply(object)) => Change::Apply(Box::new(parse::<K>(object))),
                Ok(watcher::Event::Delete(object)) => Change::Delete(key_of(&object)),
            };
            if !self.send(change).await {
                return false;
            }
        }
        false
    }
}

/// The status code of the API server's response, if there was a response.
fn status_code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

fn failure(error: &watcher::Error) -> Failure {
    match status_code(error) {
        None => Failure::NoResponse,
        Some(403 | 404) => Failure::Denied,
        Some(_) => Failure::ErrorResponse,
    }
}

fn key_of(object: &DynamicObject) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn parse<K>(mut object: DynamicObject) -> Object
where
    K: Tabled,
    Object: From<K>,
{
    let key = key_of(&object);
    let (generation, uid) = (object.metadata.generation, object.metadata.uid.clone());
    let created = object.metadata.creation_timestamp.clone();
    let stage = UnparsableStage::read(K::KIND, &object.data).map(Box::new);
    let access_keys = recorded_access_keys(K::KIND, &object.data);
    object.metadata.managed_fields = None;
    match object.try_parse::<K>() {
        Ok(object) => Object::from(object),
        Err(error) => {
            // The cause alone: it names the field, and the outer text names Rust types.
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            tracing::warn!(object = %K::KIND.object(&key), error = why, "cannot parse an object");
            Object::Unparsable(K::KIND, key, Unparsable { generation, uid, created, stage, access_keys, why })
        }
    }
}
