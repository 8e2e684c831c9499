//! A proxy with few file descriptors, under clients that take more than there are.

use std::time::Duration;

use sluice_kit::client::{Session, get};
use sluice_kit::{SOON, until as eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;

const HOST: &str = "few.example";
/// A probe of the kubelet waits for one second.
const PROBE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn clients_that_take_all_file_descriptors_do_not_stop_probes_configuration_or_other_clients() -> anyhow::Result<()>
{
    let server = ApiServer::start("descriptors").await?;
    let mut fleet = Fleet::of(&server, 1).await?;
    let space = Space::new(server.client().await?, "few").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("a", "prod", "/a", mock("a"))).await?;
    space.programmed("ApiRoute", "a").await?;
    for (round, limit) in [64_u32, 100, 300].into_iter().enumerate() {
        let proxy = &mut fleet.proxies[0];
        proxy.restart_with_descriptors(limit).await?;
        // Clients that send nothing, a part of a head, and a request after which they keep the connection; also to the admin port.
        let mut clients = Vec::new();
        for number in 0..2 * limit {
            let address = if number % 5 == 0 { proxy.admin } else { proxy.http };
            let mut client = TcpStream::connect(address).await?;
            let sent = match number % 3 {
                0 => String::new(),
                1 => format!("GET /a HTTP/1.1\r\nhost: {HOST}"),
                _ => format!("GET /a HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
            };
            // The proxy may have closed it.
            client.write_all(sent.as_bytes()).await.unwrap_or_default();
            clients.push(client);
            if number % 16 == 0 {
                for path in ["/healthz", "/readyz"] {
                    let probe = tokio::time::timeout(PROBE, get("admin", path).send(proxy.admin)).await;
                    let status =
                        probe.map_err(|_| anyhow::anyhow!("{path} with {number} clients: no response"))??.status;
                    assert_eq!(status, 200, "{path} with {number} clients of {limit} descriptors");
                }
            }
        }
        // A new client may be closed for another one, and is then served at the next attempt.
        eventually("another client is served".to_owned(), SOON, || async {
            let response = Session::open(proxy.http).await?.send(&get(HOST, "/a")).await?;
            anyhow::ensure!(response.status == 200, "{response:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        let path = format!("/b{round}");
        space.apply(&route("b", "prod", &path, mock("b"))).await?;
        eventually("a change is served".to_owned(), SOON, || async {
            let response = get(HOST, &path).send(proxy.http).await?;
            anyhow::ensure!(response.status == 200, "{response:?}");
            Ok::<_, anyhow::Error>(())
        })
        .await?;
        proxy.check()?;
        drop(clients);
    }
    Ok(())
}
