-- The actions of a PackageRepo.
return {["update-index"] = {["iconClass"] = "fa fa-fw fa-sync", ["displayName"] = "Update index"}}
