//! Configuration of a Kubernetes cluster, and clients for it.
//!
//! A kubeconfig file is used if the settings name one. Otherwise the server uses the cluster that it runs in, which
//! Kubernetes describes to every container by two environment variables, a token and a certificate. A kubeconfig in
//! the home directory is never used without a setting. Token files are read again every minute (by kube), because
//! Kubernetes rotates them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::util::MapResponseLayer;

const CONNECT_MS_MAX: u64 = 5_000;
/// Longest silence of the API server on a connection, in milliseconds. It is longer than one watch lasts, so that a
/// quiet watch is not cut.
const SILENCE_MS_MAX: u64 = 40_000;

/// Environment variables that Kubernetes sets in every container, and below them the directory of the container's
/// service account with the files in it.
const SERVICE_VARIABLES: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT_FILES: [&str; 2] = ["token", "ca.crt"];

/// Configuration and credentials for a cluster. No request was made with them yet.
#[derive(Clone, Debug)]
pub struct Cluster {
    config: Config,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Errors in the configuration of a cluster: a kubeconfig that is missing or malformed at the `path` of the setting
/// `--kubeconfig`, files of the container's service account that can't be used, or TLS or authentication that can't
/// be set up. An API server that does not answer is not one of them, because it may come up later.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the type's document explains the variants")]
pub enum ClientError {
    #[error("--kubeconfig {path}: the file can't be used; name one that works with kubectl --kubeconfig")]
    Kubeconfig { path: PathBuf, source: Cause },
    #[error(
        "this looks like a container in a cluster, but its service account in {ACCOUNT_FOLDER} can't be used"
    )]
    InCluster(#[source] Cause),
    #[error("the connection to the Kubernetes API can't be set up")]
    Client(#[source] Cause),
}

/// Name of this host, which in a container of a cluster is that of its pod; empty if it has none.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

impl Cluster {
    /// The kubeconfig's cluster if a file is named, else the cluster that this process runs in, if any.
    pub async fn find(kubeconfig: Option<&Path>) -> Result<Option<Cluster>, ClientError> {
        match kubeconfig {
            Some(path) => Cluster::from_kubeconfig(path).await.map(Some),
            None => Cluster::in_cluster(),
        }
    }

    /// The cluster of the current context in a kubeconfig file.
    pub async fn from_kubeconfig(path: &Path) -> Result<Cluster, ClientError> {
        let wrong = |error: KubeconfigError| {
            let (path, source) = (path.into(), error.into());
            ClientError::Kubeconfig { path, source }
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Ok(Cluster::new(config.map_err(wrong)?))
    }

    /// The cluster that this process runs in; `None` if it does not run in one.
    pub fn in_cluster() -> Result<Option<Cluster>, ClientError> {
        let has_variables = SERVICE_VARIABLES.iter().all(|name| std::env::var_os(name).is_some());
        let has_files = ACCOUNT_FILES.iter().all(|file| Path::new(ACCOUNT_FOLDER).join(file).exists());
        if !has_variables || !has_files {
            return Ok(None);
        }
        Config::incluster()
            .map(|config| Some(Cluster::new(config)))
            .map_err(|error| ClientError::InCluster(error.into()))
    }

    /// URL of the cluster's API server.
    pub fn address(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// A client with a connection pool of its own.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::try_from(self.config.clone()).map_err(|error| ClientError::Client(error.into()))
    }

    /// Kubernetes namespace that the server runs in, or that the kubeconfig's context names; else `default`.
    pub fn namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// A client with a connection pool of its own that calls `heard` for each successful response, which shows that
    /// the API server is alive.
    pub(super) fn observed_client(
        &self,
        heard: impl Fn() + Clone + Send + 'static,
    ) -> Result<Client, ClientError> {
        let listen = MapResponseLayer::new(move |response: hyper::Response<_>| {
            if response.status().is_success() {
                heard();
            }
            response
        });
        let builder = ClientBuilder::try_from(self.config.clone());
        let builder = builder.map_err(|error| ClientError::Client(error.into()))?;
        Ok(builder.with_layer(&listen).build())
    }

    fn new(mut config: Config) -> Cluster {
        config.connect_timeout = Some(Duration::from_millis(CONNECT_MS_MAX));
        config.read_timeout = Some(Duration::from_millis(SILENCE_MS_MAX));
        Cluster { config }
    }
}

/// Text of an error and its causes in one line. A cause whose text is contained already is left out, because some
/// errors repeat their source.
pub(crate) fn error_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
