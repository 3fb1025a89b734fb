//! TLS to Redis: whom it trusts, and what it shows.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use redis::{Client, ClientTlsConfig, ConnectionAddr, TlsCertificates};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How connections to Redis, and to Sentinels, are encrypted. The name, or address, of every server has to stand in its
/// certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Of no server yet: what all of them have in common is in it.
    address: ConnectionAddr,
}

impl Tls {
    /// Reads what is needed, all of it PEM: the authorities to trust instead of the system's, and a certificate with its key
    /// for servers that ask for one.
    ///
    /// # Errors
    /// Names the setting whose file cannot be read or holds something else.
    pub fn read(authorities: Option<&Path>, identity: Option<(&Path, &Path)>) -> anyhow::Result<Self> {
        let root_cert = authorities.map(|file| certificates("PUBSUB_TLS_CA", file)).transpose()?;
        let client_tls = match identity {
            Some((certificate, key)) => Some(ClientTlsConfig {
                client_cert: certificates("PUBSUB_TLS_CERT", certificate)?,
                client_key: private_key("PUBSUB_TLS_KEY", key)?,
            }),
            None => None,
        };
        let nowhere = ConnectionAddr::TcpTls { host: String::new(), port: 0, insecure: false, tls_params: None };
        let client = Client::build_with_tls(nowhere, TlsCertificates { client_tls, root_cert })?;
        Ok(Self { address: client.get_connection_info().addr().clone() })
    }

    /// The address of a server, spoken to in TLS.
    pub(super) fn address(&self, to: &str, at: u16) -> ConnectionAddr {
        let mut address = self.address.clone();
        if let ConnectionAddr::TcpTls { host, port, .. } = &mut address {
            (*host, *port) = (to.to_owned(), at);
        }
        address
    }
}

/// A file with certificates; one without any would trust nobody, and say so of every server.
fn certificates(setting: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = read(setting, file)?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    ensure!(found.is_ok_and(|found| !found.is_empty()), "{setting}: found no certificate in PEM in {}", file.display());
    Ok(pem)
}

fn private_key(setting: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = read(setting, file)?;
    ensure!(
        PrivateKeyDer::from_pem_slice(&pem).is_ok(),
        "{setting}: found no private key in PEM in {}",
        file.display()
    );
    Ok(pem)
}

fn read(setting: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("{setting}: {} cannot be read", file.display()))
}
