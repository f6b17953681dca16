//! The reading operations, each answered from a single state of the registry.

use std::collections::BTreeSet;

use crate::model::{Identity, Instance, OperationKey};
use crate::registry::query::InstancePage;
use crate::registry::{
    Discover, Filter, FilterCondition, HealthFilter, HealthSettings, Page, ServiceState, State,
};

use super::action::Action;
use super::codec::{Codec, Structure, structure};
use super::error::ApiError;
use super::input::Input;
use super::output;
use super::token::Listing;

/// Items of a page when MaxResults is not given; in lists this is also the largest MaxResults.
const PAGE_DEFAULT: usize = 100;

/// Most filters of a list, and most values of a filter. Every value is compared with every item of the list.
const FILTERS_MAX: usize = 20;
const FILTER_VALUES_MAX: usize = 100;

/// A text that sorts after every operation id, which consists of ASCII letters, digits and hyphens.
const AFTER_ALL_IDS: &str = "~";

pub(super) struct Query<'a> {
    pub(super) state: &'a State,
    pub(super) identity: &'a Identity,
    pub(super) policies: HealthSettings,
}

impl Query<'_> {
    /// Appends the answer of an operation to `out`, which is unchanged after an error.
    pub(super) fn answer<C: Codec>(
        &self,
        action: Action,
        input: &Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        match action {
            Action::DiscoverInstances => self.discover_instances::<C>(input, out),
            Action::DiscoverInstancesRevision => self.discover_instances_revision::<C>(input, out),
            Action::GetInstance => self.get_instance::<C>(input, out),
            Action::GetInstancesHealthStatus => self.get_instances_health_status::<C>(input, out),
            Action::GetNamespace => self.get_namespace::<C>(input, out),
            Action::GetOperation => self.get_operation::<C>(input, out),
            Action::GetService => self.get_service::<C>(input, out),
            Action::GetServiceAttributes => self.get_service_attributes::<C>(input, out),
            Action::ListInstances => self.list_instances::<C>(input, out),
            Action::ListNamespaces => self.list_namespaces::<C>(input, out),
            Action::ListOperations => self.list_operations::<C>(input, out),
            Action::ListServices => self.list_services::<C>(input, out),
            Action::ListTagsForResource => self.list_tags::<C>(input, out),
            other => Err(ApiError::internal(format!("{} is no query.", other.as_str()))),
        }
    }

    /// Ignores OwnerAccount, because this server has a single account that owns every namespace.
    fn discover_instances<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let query: Vec<_> = input.pairs("QueryParameters").collect();
        let optional: Vec<_> = input.pairs("OptionalParameters").collect();
        let ask = Discover {
            namespace_name: input.required("NamespaceName")?,
            service_name: input.required("ServiceName")?,
            query: &query,
            optional: &optional,
            health: match input.text("HealthStatus") {
                Some("UNHEALTHY") => HealthFilter::Unhealthy,
                Some("ALL") => HealthFilter::All,
                Some("HEALTHY_OR_ELSE_ALL") => HealthFilter::HealthyOrElseAll,
                Some("HEALTHY") => HealthFilter::Healthy,
                _ => HealthFilter::Answered,
            },
            policies: self.policies,
            results_max: input.integer("MaxResults").unwrap_or(PAGE_DEFAULT),
        };
        // Seeded from a thread-local generator, so that threads share neither a lock nor a counter.
        let found = self.state.discover(&ask, &mut fastrand::Rng::new())?;
        out.reserve(64 + found.instances.len() * 256);
        structure::<C>(out, |out| {
            out.structures("Instances", found.instances.iter(), |out, (instance, status)| {
                out.text("InstanceId", instance.id());
                out.text("NamespaceName", &*found.namespace.namespace.http_name);
                out.text("ServiceName", &*found.service.service.name);
                out.text("HealthStatus", status.as_str());
                out.map("Attributes", instance.attributes());
            });
            out.integer("InstancesRevision", found.service.revision());
        });
        Ok(())
    }

    fn discover_instances_revision<C: Codec>(
        &self,
        input: &Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let (_, service) =
            self.state.find(input.required("NamespaceName")?, input.required("ServiceName")?)?;
        structure::<C>(out, |out| out.integer("InstancesRevision", service.revision()));
        Ok(())
    }

    fn get_namespace<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let state = self.state.namespace(input.required("Id")?)?;
        structure::<C>(out, |out| {
            out.structure("Namespace", |out| output::namespace(out, self.identity, state, false));
        });
        Ok(())
    }

    fn get_service<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let state = self.state.service(input.required("Id")?)?;
        structure::<C>(out, |out| {
            out.structure("Service", |out| output::service(out, self.identity, state, false));
        });
        Ok(())
    }

    fn get_operation<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let operation = self.state.operation(input.required("OperationId")?)?;
        structure::<C>(out, |out| {
            out.structure("Operation", |out| output::operation(out, self.identity, operation));
        });
        Ok(())
    }

    fn get_instance<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let service = self.state.service(input.required("ServiceId")?)?;
        let instance = service.instance(input.required("InstanceId")?)?;
        structure::<C>(out, |out| {
            out.text("ResourceOwner", &*self.identity.account_id);
            out.structure("Instance", |out| output::instance(out, self.identity, instance, false));
        });
        Ok(())
    }

    fn get_service_attributes<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let service = &self.state.service(input.required("ServiceId")?)?.service;
        structure::<C>(out, |out| {
            out.structure("ServiceAttributes", |out| {
                out.text("ServiceArn", &*self.identity.service_arn(&service.id));
                out.text("ResourceOwner", &*self.identity.account_id);
                out.map("Attributes", service.attributes.iter().map(|(key, value)| (&**key, &**value)));
            });
        });
        Ok(())
    }

    fn list_tags<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let tags = self.state.tags(input.required("ResourceARN")?)?;
        structure::<C>(out, |out| {
            out.structures("Tags", tags.iter(), |out, (key, value)| {
                out.text("Key", &**key);
                out.text("Value", &**value);
            });
        });
        Ok(())
    }

    fn list_namespaces<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let listing = Listing::Namespaces;
        let page = self.state.list_namespaces(&filters(input)?, after(input, listing)?, page_max(input))?;
        write_page::<C, _, _>(out, "Namespaces", page, listing, |out, state| {
            output::namespace(out, self.identity, state, true);
        });
        Ok(())
    }

    fn list_services<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let listing = Listing::Services;
        let page = self.state.list_services(&filters(input)?, after(input, listing)?, page_max(input))?;
        write_page::<C, _, _>(out, "Services", page, listing, |out, state| {
            output::service(out, self.identity, state, true);
        });
        Ok(())
    }

    fn list_operations<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let listing = Listing::Operations;
        let page = self.state.list_operations(&filters(input)?, after_operation(input)?, page_max(input))?;
        let page = Page { items: page.items, next: page.next.map(|key| operation_token(&key)) };
        write_page::<C, _, _>(out, "Operations", page, listing, |out, operation| {
            out.text("Id", operation.id.as_str());
            out.text("Status", operation.status.as_str());
        });
        Ok(())
    }

    fn list_instances<C: Codec>(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let service = self.state.service(input.required("ServiceId")?)?.service.id.as_str();
        let listing = Listing::Instances(service);
        let after = input.text("NextToken").map(|token| listing.key(token)).transpose()?;
        let (_, page) = self.state.list_instances(service, after.as_deref(), page_max(input))?;
        structure::<C>(out, |out| {
            out.text("ResourceOwner", &*self.identity.account_id);
            out.structures("Instances", page.items.iter(), |out, instance| {
                output::instance(out, self.identity, instance, true);
            });
            out.text("NextToken", page.next.map(|key| listing.token(&key)).as_deref());
        });
        Ok(())
    }

    fn get_instances_health_status<C: Codec>(
        &self,
        input: &Input<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let service = self.state.service(input.required("ServiceId")?)?;
        let listing = Listing::Health(service.service.id.as_str());
        let after = input.text("NextToken").map(|token| listing.key(token)).transpose()?;
        let page = if input.has("Instances") {
            selected(service, input.texts("Instances").collect(), after.as_deref(), page_max(input))?
        } else {
            let id = service.service.id.as_str();
            self.state.list_instances(id, after.as_deref(), page_max(input))?.1
        };
        let status = |instance: &&Instance| service.service.status_of(instance).as_str();
        structure::<C>(out, |out| {
            out.map("Status", page.items.iter().map(|instance| (instance.id(), status(instance))));
            out.text("NextToken", page.next.map(|key| listing.token(&key)).as_deref());
        });
        Ok(())
    }
}

/// Returns a page of the instances with the given ids. All of them have to exist, also those of other pages.
fn selected<'s>(
    service: &'s ServiceState,
    ids: BTreeSet<&str>,
    after: Option<&str>,
    page_max: usize,
) -> Result<InstancePage<'s>, ApiError> {
    let all: Vec<_> = ids.into_iter().map(|id| service.instance(id)).collect::<Result<_, _>>()?;
    let mut rest = all.into_iter().filter(|instance| after.is_none_or(|after| instance.id() > after));
    let items: Vec<_> = rest.by_ref().take(page_max).collect();
    let next = rest.next().and_then(|_| items.last().map(|last| last.id().to_owned()));
    Ok(Page { items, next })
}

fn filters(input: &Input<'_>) -> Result<Vec<Filter>, ApiError> {
    let too_many = |what, max| ApiError::invalid_input(format!("There can be at most {max} {what}."));
    if input.structures("Filters").count() > FILTERS_MAX {
        return Err(too_many("filters", FILTERS_MAX));
    }
    if input.structures("Filters").any(|filter| filter.texts("Values").count() > FILTER_VALUES_MAX) {
        return Err(too_many("values in a filter", FILTER_VALUES_MAX));
    }
    let filter = |filter: Input<'_>| Filter {
        name: filter.text("Name").unwrap_or_default().to_owned(),
        condition: match filter.text("Condition") {
            Some("IN") => FilterCondition::In,
            Some("BETWEEN") => FilterCondition::Between,
            Some("BEGINS_WITH") => FilterCondition::BeginsWith,
            _ => FilterCondition::Equal,
        },
        values: filter.texts("Values").map(str::to_owned).collect(),
    };
    Ok(input.structures("Filters").map(filter).collect())
}

fn after(input: &Input<'_>, listing: Listing<'_>) -> Result<Option<u64>, ApiError> {
    input.text("NextToken").map(|token| listing.number(token)).transpose()
}

/// Returns the operation before the page's first one. Tokens of an earlier version consist of a number only.
fn after_operation(input: &Input<'_>) -> Result<Option<OperationKey>, ApiError> {
    let Some(token) = input.text("NextToken") else { return Ok(None) };
    let key = Listing::Operations.key(token)?;
    let (number, id) = key.split_once(' ').unwrap_or((&key, AFTER_ALL_IDS));
    let number = number.parse().map_err(|_| ApiError::invalid_input("The NextToken is not valid."))?;
    Ok(Some(OperationKey { number, id: id.into() }))
}

fn operation_token(key: &OperationKey) -> String {
    format!("{} {}", key.number, key.id)
}

fn page_max(input: &Input<'_>) -> usize {
    input.integer("MaxResults").unwrap_or(PAGE_DEFAULT)
}

fn write_page<C: Codec, T, Key: ToString>(
    out: &mut Vec<u8>,
    name: &str,
    page: Page<T, Key>,
    listing: Listing<'_>,
    write: impl Fn(&mut Structure<'_, C>, &T),
) {
    structure::<C>(out, |out| {
        out.structures(name, page.items.iter(), write);
        out.text("NextToken", page.next.map(|key| listing.token(&key.to_string())).as_deref());
    });
}
