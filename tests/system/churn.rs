//! Two hundred random edits while clients send requests: no request fails, and no status is earlier than the proxies.

use serde_json::json;

use crate::fixtures::{mock, route, service, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::backend::{self, Backend};
use crate::harness::load::Load;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

const HOST: &str = "churn.example";
const EDITS: u32 = 200;

/// The same edits in every run: a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        // Steele, Vigna: "Computationally easy, spectrally good multipliers".
        self.0 = self.0.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

#[tokio::test]
async fn two_hundred_edits_fail_no_request_and_no_status_is_early() -> anyhow::Result<()> {
    let fleet = Fleet::shared().await?;
    let space = Space::new(ApiServer::shared().await?.client().await?, "churn").await?;
    let backends = [Backend::start("zero")?, Backend::start("one")?];
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&backend::service("pets")).await?;
    space.apply(&backend::endpoints("pets", 0, backends.first())).await?;
    space.apply(&route("pets", "prod", "/pets", service("pets"))).await?;
    space.apply(&route("still", "prod", "/still", mock("still"))).await?;
    space.apply(&route("edited", "prod", "/edited", mock("0"))).await?;
    for name in ["pets", "still", "edited"] {
        space.programmed("ApiRoute", name).await?;
    }
    let load = Load::start(fleet, &[get(HOST, "/pets"), get(HOST, "/still"), get(HOST, "/edited")]);
    let mut dice = Dice(0x5157);
    for edit in 1..=EDITS {
        match dice.roll(6) {
            0 | 1 => {
                let body = format!("edit {edit}");
                space.apply(&route("edited", "prod", "/edited", mock(&body))).await?;
                space.programmed("ApiRoute", "edited").await?;
                for response in fleet.all(&get(HOST, "/edited")).await? {
                    assert_eq!(response.body, body, "Programmed came before the proxies served it");
                }
            }
            2 => {
                let name = format!("passing-{}", dice.roll(5));
                space.apply(&route(&name, "prod", &format!("/{name}"), mock(&name))).await?;
                space.programmed("ApiRoute", &name).await?;
                assert_eq!(fleet.status(&get(HOST, &format!("/{name}"))).await?, 200, "{name}");
            }
            3 => {
                let name = format!("passing-{}", dice.roll(5));
                if space.get("ApiRoute", &name).await.is_ok() {
                    space.delete("ApiRoute", &name).await?;
                    eventually(format!("{name} is gone from both proxies"), SOON, || async {
                        let status = fleet.status(&get(HOST, &format!("/{name}"))).await?;
                        anyhow::ensure!(status == 404, "they return {status}");
                        Ok::<_, anyhow::Error>(())
                    })
                    .await?;
                }
            }
            4 => {
                let which = usize::try_from(dice.roll(2))?;
                space.apply(&backend::endpoints("pets", 0, backends.get(which))).await?;
                let name = if which == 0 { "zero" } else { "one" };
                eventually(format!("both proxies send to {name}"), SOON, || async {
                    for response in fleet.all(&get(HOST, "/pets")).await? {
                        anyhow::ensure!(response.json()["name"] == name, "one returned {response:?}");
                    }
                    Ok::<_, anyhow::Error>(())
                })
                .await?;
            }
            _ => {
                let mut stage = stage("prod", HOST);
                stage["spec"]["throttle"] = json!({"rate": 100_000 + dice.roll(1000), "burst": 200_000});
                space.apply(&stage).await?;
            }
        }
    }
    let requests = load.finish().await?;
    assert!(requests > u64::from(EDITS), "only {requests} requests in {EDITS} edits");
    space.programmed("Stage", "prod").await?;
    for proxy in &fleet.proxies {
        proxy.check()?;
    }
    Ok(())
}
