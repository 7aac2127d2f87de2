//! Against services that run elsewhere: here, in the process of the test.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::net::SocketAddr;

use load_test::{
    claims::Claim,
    interrupt::Interrupt,
    metrics::Meter,
    recording::{Client, Recording},
    results::Judged,
    run,
    screen::Screen,
    settings::Settings,
    stage::Stage,
};
use proto::chaos::v1::{GetRequest, SetRequest, chaos_client::ChaosClient};
use service_kit::Running;

struct Services {
    user: Running,
    order: Running,
}

impl Services {
    async fn start() -> Self {
        let user = user_service::start(user_service::Settings {
            chaos_api: true,
            ..user_service::Settings::default()
        });
        let user = user.await.unwrap();
        let order = order_service::start(order_service::Settings {
            user_service_url: user.grpc_addr().to_string(),
            ..order_service::Settings::default()
        });
        Self {
            order: order.await.unwrap(),
            user,
        }
    }

    fn chaos(&self) -> ChaosClient<tonic::transport::Channel> {
        let url = format!("http://{}", self.user.grpc_addr());
        let endpoint = tonic::transport::Endpoint::from_shared(url).unwrap();
        ChaosClient::new(endpoint.connect_lazy())
    }
}

/// Runs with these arguments, and leaves the stage as a program would.
async fn measure(arguments: &[&str]) -> (Recording, Judged) {
    use clap::Parser as _;
    let arguments = ["load-test"].iter().chain(arguments);
    let settings = Settings::try_parse_from(arguments).unwrap();
    let plan = settings.plan().unwrap();
    let mut stage = Stage::open(&plan, Client::Resilient).await.unwrap();
    let mut screen = Screen::new(true, true);
    let mut interrupt = Interrupt::on_signals().unwrap();
    let terms = stage.terms;
    let meter = Meter::silent();
    let recording = run::run(
        &plan,
        &meter,
        Client::Resilient,
        &mut stage,
        &mut screen,
        &mut interrupt,
    );
    let recording = recording.await.unwrap();
    stage.close().await.unwrap();
    (recording.clone(), Judged::new(recording, &terms))
}

fn text(addr: SocketAddr) -> String {
    addr.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_faults_are_turned_on_and_put_back_as_they_were() {
    let services = Services::start().await;
    let mut chaos = services.chaos();
    let before = SetRequest {
        chaos: "latency=1ms".to_owned(),
    };
    let before = chaos.set(before).await.unwrap().into_inner().chaos;

    let metrics = format!("{}/metrics", services.order.metrics_addr());
    let (recording, judged) = measure(&[
        "--target",
        &text(services.order.grpc_addr()),
        "--chaos-target",
        &text(services.user.grpc_addr()),
        "--metrics",
        &metrics,
        "--rate",
        "100",
        "--phases",
        "steady=1s,down=3s",
    ])
    .await;

    let after = chaos.get(GetRequest {}).await.unwrap().into_inner().chaos;
    assert_eq!(after, before);
    // Generous: on a busy machine, calls start late, and so in the next phase.
    assert!(judged.phases[0].success.unwrap() > 0.5);
    assert!(judged.phases[1].success.unwrap() < 0.5);
    let retries = judged.phases[1].retries.unwrap();
    // The budget of 20, and what up to a hundred successes deposit that were late for the first
    // phase; without a budget it would be 600.
    assert!((1.0..=40.0).contains(&retries), "{retries}");
    let opened = judged.phases[1].open.unwrap();
    assert!(opened.as_secs_f64() > 1.0, "{opened:?}");
    let samples = recording.samples.unwrap();
    assert!(samples.is_sorted_by(|one, next| one.at <= next.at));
    assert!(samples.len() > 20, "{}", samples.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_metrics_and_switch_is_watched_and_nothing_is_made_up() {
    let services = Services::start().await;
    let (recording, judged) = measure(&[
        "--target",
        &text(services.order.grpc_addr()),
        "--rate",
        "100",
        "--phases",
        "steady=2s",
    ])
    .await;

    assert_eq!(recording.samples, Err("needs --metrics".to_owned()));
    assert!((190..=250).contains(&recording.calls.len()));
    assert_eq!(judged.phases[0].attempts_per_call, None);
    let claims: Vec<_> = judged.claims.iter().map(Claim::name).collect();
    assert_eq!(
        claims,
        ["steady and slow: success", "every phase: slowest answer"]
    );
}
