//! Certificates of an authority of the tests' own, and doors that lead through TLS: who knocks there need know nothing of it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where the proxies under test listen, and what their certificates say.
pub(crate) const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Signs certificates, and is all that its clients trust.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    connector: TlsConnector,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Another name than what it signs has by default: OpenSSL takes what is named as its issuer for signed by itself.
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(issuer.der().clone()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { issuer, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Puts a new certificate of [`HOST`] where the proxies look for it, and the authority's own beside it.
    pub(crate) fn issue(&self, folder: &Path) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([HOST.to_string()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        let key = key.serialize_pem();
        let both = format!("{certificate}{key}");
        for (name, pem) in [
            ("chat.pem", &certificate),
            ("chat.key", &key),
            ("chat-and-key.pem", &both),
            ("authority.pem", &self.issuer.pem()),
        ] {
            fs::write(folder.join(name), pem).expect("the folder is ours");
        }
    }

    /// The certificate that is shown there now.
    pub(crate) async fn shown_at(&self, address: SocketAddr) -> Vec<u8> {
        let stream = connect(&self.connector, address, HOST).await.expect("it listens, with a certificate of ours");
        stream.get_ref().1.peer_certificates().expect("servers have one")[0].to_vec()
    }

    /// A door to the server there, whose visitors come from this address.
    pub(crate) async fn door(&self, to: SocketAddr, from: IpAddr) -> Door {
        let listener = TcpListener::bind((HOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut task = JoinSet::new();
        task.spawn(admit(listener, self.connector.clone(), to, from));
        Door { address, _task: task }
    }
}

/// Passes what it is told in the clear on under TLS. Dropped, it cuts all connections.
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    _task: JoinSet<()>,
}

async fn admit(listener: TcpListener, connector: TlsConnector, to: SocketAddr, from: IpAddr) {
    let mut visitors = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        while visitors.try_join_next().is_some() {}
        let connector = connector.clone();
        visitors.spawn(async move {
            if let Ok(mut server) = connect(&connector, to, from).await {
                // However it ends: the client sees that it has.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

async fn connect(connector: &TlsConnector, to: SocketAddr, from: IpAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    connector.connect(ServerName::from(to.ip()), stream).await
}
