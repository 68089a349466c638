"""CloudWatch dashboards. `make dashboards` draws them."""

import json

from moto.cloudwatch.models import cloudwatch_backends

from .kind import Kind, Place, Properties, Resource, UnsupportedChange


class Dashboard(Kind):
    """AWS::CloudWatch::Dashboard."""

    replaced_by = frozenset({"DashboardName"})

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties.get("DashboardName") or place.name(255)
        return self._put(place, name, properties)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return self._put(place, resource.physical_id, properties)

    def delete(self, place: Place, resource: Resource) -> None:
        cloudwatch_backends[place.account][place.region].delete_dashboards([resource.physical_id])

    @staticmethod
    def _put(place: Place, name: str, properties: Properties) -> Resource:
        body = properties["DashboardBody"]
        try:
            json.loads(body)["widgets"]
        except (ValueError, KeyError, TypeError):
            raise UnsupportedChange(f"the body of the dashboard {name} is no JSON with widgets") from None
        cloudwatch_backends[place.account][place.region].put_dashboard(name=name, body=body)
        return Resource(name)
