//! The reading operations, each answered from a single state of the registry.

use std::collections::BTreeSet;

use crate::model::{Identity, Instance, OperationKey};
use crate::registry::query::InstancePage;
use crate::registry::{Discover, Filter, HealthSettings, Page, ServiceState, State};

use super::codec::{Codec, Structure, structure};
use super::error::ApiError;
use super::inputs::{
    DiscoverInstances, DiscoverInstancesRevision, GetInstance, GetInstancesHealthStatus, ListInstances,
    ListNamespaces, ListOperations, ListServices, NamespaceFilter, OperationFilter, QueryInput,
    ServiceFilter,
};
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
    pub(super) fn answer<C: Codec>(&self, input: QueryInput<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        match input {
            QueryInput::DiscoverInstances(input) => self.discover_instances::<C>(&input, out),
            QueryInput::DiscoverInstancesRevision(input) => {
                self.discover_instances_revision::<C>(&input, out)
            }
            QueryInput::GetInstance(input) => self.get_instance::<C>(&input, out),
            QueryInput::GetInstancesHealthStatus(input) => self.get_instances_health_status::<C>(&input, out),
            QueryInput::GetNamespace(input) => self.get_namespace::<C>(input.id, out),
            QueryInput::GetOperation(input) => self.get_operation::<C>(input.operation_id, out),
            QueryInput::GetService(input) => self.get_service::<C>(input.id, out),
            QueryInput::GetServiceAttributes(input) => {
                self.get_service_attributes::<C>(input.service_id, out)
            }
            QueryInput::ListInstances(input) => self.list_instances::<C>(&input, out),
            QueryInput::ListNamespaces(input) => self.list_namespaces::<C>(input, out),
            QueryInput::ListOperations(input) => self.list_operations::<C>(input, out),
            QueryInput::ListServices(input) => self.list_services::<C>(input, out),
            QueryInput::ListTagsForResource(input) => self.list_tags::<C>(input.resource_arn, out),
        }
    }

    fn discover_instances<C: Codec>(
        &self,
        input: &DiscoverInstances<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let ask = Discover {
            namespace_name: input.namespace_name,
            service_name: input.service_name,
            query: input.query_parameters.as_deref().unwrap_or_default(),
            optional: input.optional_parameters.as_deref().unwrap_or_default(),
            health: input.health_status.unwrap_or_default(),
            policies: self.policies,
            results_max: input.max_results.unwrap_or(PAGE_DEFAULT),
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
        input: &DiscoverInstancesRevision<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let (_, service) = self.state.find(input.namespace_name, input.service_name)?;
        structure::<C>(out, |out| out.integer("InstancesRevision", service.revision()));
        Ok(())
    }

    fn get_namespace<C: Codec>(&self, id: &str, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let state = self.state.namespace(id)?;
        structure::<C>(out, |out| {
            out.structure("Namespace", |out| output::namespace(out, self.identity, state, false));
        });
        Ok(())
    }

    fn get_service<C: Codec>(&self, id: &str, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let state = self.state.service(id)?;
        structure::<C>(out, |out| {
            out.structure("Service", |out| output::service(out, self.identity, state, false));
        });
        Ok(())
    }

    fn get_operation<C: Codec>(&self, id: &str, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let operation = self.state.operation(id)?;
        structure::<C>(out, |out| {
            out.structure("Operation", |out| output::operation(out, self.identity, operation));
        });
        Ok(())
    }

    fn get_instance<C: Codec>(&self, input: &GetInstance<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let service = self.state.service(input.service_id)?;
        let instance = service.instance(input.instance_id)?;
        structure::<C>(out, |out| {
            out.text("ResourceOwner", &*self.identity.account_id);
            out.structure("Instance", |out| output::instance(out, self.identity, instance, false));
        });
        Ok(())
    }

    fn get_service_attributes<C: Codec>(&self, service: &str, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let service = &self.state.service(service)?.service;
        structure::<C>(out, |out| {
            out.structure("ServiceAttributes", |out| {
                out.text("ServiceArn", &*self.identity.service_arn(&service.id));
                out.text("ResourceOwner", &*self.identity.account_id);
                out.map("Attributes", service.attributes.iter().map(|(key, value)| (&**key, &**value)));
            });
        });
        Ok(())
    }

    fn list_tags<C: Codec>(&self, arn: &str, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let tags = self.state.tags(arn)?;
        structure::<C>(out, |out| {
            out.structures("Tags", tags.iter(), |out, (key, value)| {
                out.text("Key", &**key);
                out.text("Value", &**value);
            });
        });
        Ok(())
    }

    fn list_namespaces<C: Codec>(
        &self,
        input: ListNamespaces<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let listing = Listing::Namespaces;
        let filters = filters(input.filters)?;
        let after = input.next_token.map(|token| listing.number(token)).transpose()?;
        let page = self.state.list_namespaces(&filters, after, page_max(input.max_results))?;
        write_page::<C, _, _>(out, "Namespaces", page, listing, |out, state| {
            output::namespace(out, self.identity, state, true);
        });
        Ok(())
    }

    fn list_services<C: Codec>(&self, input: ListServices<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let listing = Listing::Services;
        let filters = filters(input.filters)?;
        let after = input.next_token.map(|token| listing.number(token)).transpose()?;
        let page = self.state.list_services(&filters, after, page_max(input.max_results))?;
        write_page::<C, _, _>(out, "Services", page, listing, |out, state| {
            output::service(out, self.identity, state, true);
        });
        Ok(())
    }

    fn list_operations<C: Codec>(
        &self,
        input: ListOperations<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let listing = Listing::Operations;
        let filters = filters(input.filters)?;
        let after = input.next_token.map(after_operation).transpose()?;
        let page = self.state.list_operations(&filters, after, page_max(input.max_results))?;
        let page = Page { items: page.items, next: page.next.map(|key| operation_token(&key)) };
        write_page::<C, _, _>(out, "Operations", page, listing, |out, operation| {
            out.text("Id", operation.id.as_str());
            out.text("Status", operation.status.as_str());
        });
        Ok(())
    }

    fn list_instances<C: Codec>(&self, input: &ListInstances<'_>, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let service = self.state.service(input.service_id)?.service.id.as_str();
        let listing = Listing::Instances(service);
        let after = input.next_token.map(|token| listing.key(token)).transpose()?;
        let (_, page) = self.state.list_instances(service, after.as_deref(), page_max(input.max_results))?;
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
        input: &GetInstancesHealthStatus<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), ApiError> {
        let service = self.state.service(input.service_id)?;
        let listing = Listing::Health(service.service.id.as_str());
        let after = input.next_token.map(|token| listing.key(token)).transpose()?;
        let page_max = page_max(input.max_results);
        let page = match &input.instances {
            Some(ids) => selected(service, ids.iter().copied().collect(), after.as_deref(), page_max)?,
            None => self.state.list_instances(service.service.id.as_str(), after.as_deref(), page_max)?.1,
        };
        let health = self.policies.of(service);
        let status = |instance: &&Instance| health.status_of(instance).as_str();
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

fn filters<F: Into<Filter>>(filters: Option<Vec<F>>) -> Result<Vec<Filter>, ApiError> {
    let filters: Vec<Filter> = filters.unwrap_or_default().into_iter().map(F::into).collect();
    let too_many = |what, max| ApiError::invalid_input(format!("There can be at most {max} {what}."));
    if filters.len() > FILTERS_MAX {
        return Err(too_many("filters", FILTERS_MAX));
    }
    if filters.iter().any(|filter| filter.values.len() > FILTER_VALUES_MAX) {
        return Err(too_many("values in a filter", FILTER_VALUES_MAX));
    }
    Ok(filters)
}

macro_rules! into_filter {
    ($($filter:ident)+) => {$(
        impl From<$filter> for Filter {
            fn from($filter { name, values, condition }: $filter) -> Filter {
                Filter { name: name.as_str().to_owned(), condition: condition.unwrap_or_default(), values }
            }
        }
    )+};
}

into_filter! { NamespaceFilter OperationFilter ServiceFilter }

/// Returns the operation before the page's first one. Tokens of an earlier version consist of a number only.
fn after_operation(token: &str) -> Result<OperationKey, ApiError> {
    let key = Listing::Operations.key(token)?;
    let (number, id) = key.split_once(' ').unwrap_or((&key, AFTER_ALL_IDS));
    let number = number.parse().map_err(|_| ApiError::invalid_input("The NextToken is not valid."))?;
    Ok(OperationKey { number, id: id.into() })
}

fn operation_token(key: &OperationKey) -> String {
    format!("{} {}", key.number, key.id)
}

fn page_max(max_results: Option<usize>) -> usize {
    max_results.unwrap_or(PAGE_DEFAULT)
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
