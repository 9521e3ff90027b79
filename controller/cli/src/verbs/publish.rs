//! `fracas publish`: the results as a static site in a folder, and the record that they were delivered.

use std::path::PathBuf;

use clap::Args;
use proto_model::exit;
use proto_wire::v1::PublishRequest;
use serde_json::Value;

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::folder::SiteFolder;
use crate::globals::{Globals, HELP};
use crate::site;
use crate::start::announce;

const EXAMPLES: &str = "\
Examples:
  fracas publish /srv/www/resilience
  fracas publish public --place https://pages.example/resilience";

/// Write the results as a static site, and record that they were published
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Publish {
    /// The folder; a new one, an empty one, or one that holds such a site, which is replaced as a whole. Pages that stand there
    /// already and are still so are not made again
    dir: PathBuf,
    /// Where readers find it, for the record [default: the folder]
    #[arg(long, value_name = "TEXT")]
    place: Option<String>,
}

impl Publish {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let mut folder = SiteFolder::begin(&self.dir)?;
        let client = Client::connect(globals).await?;
        announce(console, &client, "every environment");
        let (maker, digest) = site::fetch(&client, &mut folder).await?;
        let (files, changed) = (folder.files(), folder.written());
        let written = folder.finish(&maker)?;
        let place = self.place.unwrap_or_else(|| written.display().to_string());
        let request = PublishRequest { place, digest };
        let recorded = client.call("record the publication", ASK, client.evidence().publish(request)).await;
        let document = recorded.map_err(|failure| failure.hint("the site was written, but it is not recorded as published"))?;
        let value = documents::value("Publication", &document.json)?;
        console.document(&value, &written.display().to_string(), |console| {
            console.line(&format!(
                "published {files} files in {}, {changed} of them written anew",
                written.display()
            ));
            for (service, points) in value["points"].as_object().into_iter().flatten() {
                console.line(&format!("points    {service} {}", points_text(points)));
            }
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

fn points_text(points: &Value) -> String {
    match points.as_u64() {
        Some(1) => "1 decided run".to_owned(),
        _ => format!("{points} decided runs"),
    }
}
