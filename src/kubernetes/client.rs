//! Which cluster to talk to, and how.
//!
//! A kubeconfig file is used when it is named. Without one, the cluster that the process runs in is found by what
//! Kubernetes puts into every container: two environment variables, a token and a certificate. A kubeconfig in the home
//! folder is never used unasked. Tokens that are files are read again as they rotate (kube does, every minute).

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tower::util::MapResponseLayer;

/// How long a connection to the API server may take, in milliseconds.
const CONNECT_MS_MAX: u64 = 5_000;
/// How long the API server may be silent on a connection, in milliseconds: longer than one watch lasts.
const SILENCE_MS_MAX: u64 = 40_000;

/// The variables that tell a container of its cluster.
const SERVICE_VARIABLES: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
/// Where a container finds its account.
const ACCOUNT_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What is in that folder.
const ACCOUNT_FILES: [&str; 2] = ["token", "ca.crt"];

/// A cluster and the account to use with it. It was not talked to yet.
#[derive(Clone, Debug)]
pub struct Cluster {
    config: Config,
}

/// What the library for Kubernetes says.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a cluster can't be talked to; that its API server does not answer is no such reason.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The file is missing, or is no kubeconfig.
    #[error("--kubeconfig {path}: the file can't be used; name one that works with kubectl --kubeconfig")]
    Kubeconfig {
        /// As it was given.
        path: PathBuf,
        /// What is wrong with it.
        source: Cause,
    },
    /// The files of the container's account can't be used.
    #[error(
        "this looks like a container in a cluster, but its service account in {ACCOUNT_FOLDER} can't be used"
    )]
    InCluster(#[source] Cause),
    /// TLS or authentication can't be set up.
    #[error("the connection to the Kubernetes API can't be set up")]
    Client(#[source] Cause),
}

impl Cluster {
    /// The cluster of the kubeconfig file, when one is named; else the one that this process runs in, if any.
    pub async fn find(kubeconfig: Option<&Path>) -> Result<Option<Cluster>, ClientError> {
        match kubeconfig {
            Some(path) => Cluster::from_kubeconfig(path).await.map(Some),
            None => Cluster::around(),
        }
    }

    /// The cluster of a kubeconfig file's current context.
    pub async fn from_kubeconfig(path: &Path) -> Result<Cluster, ClientError> {
        let wrong = |error: KubeconfigError| {
            let (path, source) = (path.into(), error.into());
            ClientError::Kubeconfig { path, source }
        };
        let kubeconfig = Kubeconfig::read_from(path).map_err(wrong)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Ok(Cluster::new(config.map_err(wrong)?))
    }

    /// The cluster that this process runs in; nothing when it runs in none.
    pub fn around() -> Result<Option<Cluster>, ClientError> {
        let has_variables = SERVICE_VARIABLES.iter().all(|name| std::env::var_os(name).is_some());
        let has_files = ACCOUNT_FILES.iter().all(|file| Path::new(ACCOUNT_FOLDER).join(file).exists());
        if !has_variables || !has_files {
            return Ok(None);
        }
        Config::incluster()
            .map(|config| Some(Cluster::new(config)))
            .map_err(|error| ClientError::InCluster(error.into()))
    }

    /// Where its API server is.
    pub fn address(&self) -> String {
        self.config.cluster_url.to_string()
    }

    /// A client of its own connections.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::try_from(self.config.clone()).map_err(|error| ClientError::Client(error.into()))
    }

    /// The Kubernetes namespace that the server runs in, or that the kubeconfig's context names; else `default`.
    pub fn namespace(&self) -> &str {
        &self.config.default_namespace
    }

    /// A client of its own connections, told of every good answer.
    pub(super) fn listening(&self, heard: impl Fn() + Clone + Send + 'static) -> Result<Client, ClientError> {
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
