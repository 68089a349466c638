"""The tenant's own data: doors that are built from a tenant's access and can't be pointed at another tenant."""
