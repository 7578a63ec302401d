//! What has been: the run history, the audit log, the figures.

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Api;
use super::extract::Query;
use super::failures::{BadRequest, Unavailable};
use super::problem::Problem;
use super::sessions::ListQuery;
use super::wire::{AuditEntry, Page, Run};
use crate::serve::metrics::{self, Metrics};

/// Lines of a page unless something else is asked for, and the most that can be.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// List past and present executions, newest first
///
/// Executions are listed for as long as the service stores them (`retention` of the configuration).
#[utoipa::path(get, path = "/run-history", tag = "records", operation_id = "listRunHistory", params(ListQuery),
    responses((status = 200, description = "A page of executions.", body = Page<Run>), BadRequest))]
pub(super) async fn history(
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<axum::Json<Page<Run>>, Problem> {
    let page = query.rows(&api).await?;
    let items = page.items.into_iter().map(Run::from).collect();
    Ok(axum::Json(Page { items, next_cursor: page.next_cursor }))
}

/// Which page of the audit log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// The number of lines of a page, from 1 to 1000. Default: 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before. Default: the first page.
    #[param(minimum = 0, maximum = 9223372036854775807i64)]
    cursor: Option<i64>,
}

/// List who asked for what and what was decided, newest first
///
/// The service keeps the last 100,000 lines.
#[utoipa::path(get, path = "/audit-log", tag = "records", operation_id = "listAuditLog", params(AuditQuery),
    responses((status = 200, description = "A page of the audit log.", body = Page<AuditEntry>), BadRequest))]
pub(super) async fn audit_log(
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<axum::Json<Page<AuditEntry>>, Problem> {
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: from 1 to {MAX_PAGE}")));
    }
    let cursor = query.cursor.map(u64::try_from).transpose();
    let cursor = cursor.map_err(|_| Problem::bad_request("cursor: give the nextCursor of the page before"))?;
    let mut rows = api.manager.store.audit_log(cursor, limit + 1).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.id.to_string());
    Ok(axum::Json(Page { items: rows.into_iter().map(AuditEntry::from).collect(), next_cursor }))
}

/// Show the figures
///
/// The figures of running sessions are at most a second old.
#[utoipa::path(get, path = "/metrics", tag = "records", operation_id = "getMetrics",
    responses((status = 200, description = "The figures.", body = Metrics), Unavailable))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<axum::Json<Metrics>, Problem> {
    Ok(axum::Json(metrics::gather(&api.manager, api.started).await?))
}

/// Show the figures for Prometheus
///
/// The figures have labels for at most 250 sessions and 250 agents, those that use the most memory.
#[utoipa::path(get, path = "/metrics", tag = "records", operation_id = "getOpenMetrics",
    responses(
        (status = 200, description = "The figures in the OpenMetrics text format.", body = String,
            content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        Unavailable,
    ))]
pub(super) async fn prometheus(State(api): State<Api>) -> Result<Response, Problem> {
    let text = metrics::gather(&api.manager, api.started).await?.open_metrics();
    let text = text.map_err(|error| Problem::internal(error.to_string()))?;
    let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, media)], text).into_response())
}
