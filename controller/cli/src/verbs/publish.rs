//! `fracas publish`: the results as a static site in a folder, and the record that they were delivered.

use std::path::PathBuf;

use clap::Args;
use proto_model::exit;
use proto_model::id::sha256_text;
use proto_wire::v1::{PublishRequest, SiteFile, SiteRequest};
use serde_json::Value;

use crate::client::{ASK, Client, DEED};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::folder::SiteFolder;
use crate::globals::{Globals, HELP};
use crate::start::announce;

const EXAMPLES: &str = "\
Examples:
  fracas publish /srv/www/resilience
  fracas publish public --place https://pages.example/resilience";

/// The file over which the site's digest is.
const HISTORY: &str = "history.json";

/// Write the results as a static site, and record that they were published
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Publish {
    /// The folder; a new one, an empty one, or one that holds such a site, which is replaced as a whole
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
        let digest = fetch(&client, &mut folder).await?;
        let files = folder.files();
        let written = folder.finish()?;
        let place = self.place.unwrap_or_else(|| written.display().to_string());
        let request = PublishRequest { place, digest };
        let recorded = client.call("record the publication", ASK, client.evidence().publish(request)).await;
        let document = recorded.map_err(|failure| failure.hint("the site was written, but it is not recorded as published"))?;
        let value = documents::value("Publication", &document.json)?;
        console.document(&value, &written.display().to_string(), |console| {
            console.line(&format!("published {files} files in {}", written.display()));
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

/// Writes each file as it comes; the site's digest, held against what was written.
async fn fetch(client: &Client, folder: &mut SiteFolder) -> Result<String, Failure> {
    let mut stream = client.call("make the site", DEED, client.evidence().site(SiteRequest {})).await?;
    let mut history = String::new();
    loop {
        let next = tokio::time::timeout(ASK, stream.message()).await;
        let next = next.map_err(|_| Failure::unreachable("cannot read the site: the controller does not answer"))?;
        match next.map_err(|status| Failure::of_call("read the site", &status))? {
            None => return Err(Failure::unreachable("the site broke off before its end; nothing was published")),
            Some(SiteFile { digest, .. }) if !digest.is_empty() => {
                let same = digest == history;
                return same
                    .then_some(digest)
                    .ok_or_else(|| Failure::local("what was written is not the site that was made; nothing was published"));
            }
            Some(file) => {
                folder.put(&file.path, &file.text)?;
                if file.path == HISTORY {
                    history = sha256_text(file.text.as_bytes());
                }
            }
        }
    }
}
