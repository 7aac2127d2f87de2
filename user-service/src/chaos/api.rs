//! `chaos.v1.Chaos`: reads and changes the faults over gRPC.

use proto::chaos::v1::{
    GetRequest, GetResponse, SetRequest, SetResponse, chaos_server::Chaos as ChaosService,
};
use tonic::{Request, Response, Status};

use super::{faults::Chaos, switch::ChaosSwitch};

/// The service, which is only there when the settings say so: whoever reaches
/// it can take the user service down.
#[derive(Debug)]
pub(crate) struct ChaosApi {
    switch: ChaosSwitch,
}

impl ChaosApi {
    pub(crate) fn new(switch: ChaosSwitch) -> Self {
        Self { switch }
    }
}

#[tonic::async_trait]
impl ChaosService for ChaosApi {
    async fn get(&self, _: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        Ok(Response::new(GetResponse {
            chaos: self.switch.in_force().to_string(),
        }))
    }

    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let text = request.into_inner().chaos;
        let chaos: Chaos = text
            .parse()
            .map_err(|error| Status::invalid_argument(format!("chaos {error}")))?;
        let written = chaos.to_string();
        self.switch.set(chaos);
        Ok(Response::new(SetResponse { chaos: written }))
    }
}
