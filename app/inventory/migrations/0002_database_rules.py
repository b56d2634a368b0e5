"""Two rules that Django's constraints cannot say."""

from django.db import migrations

APPEND_ONLY = """
CREATE FUNCTION inventory_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER inventory_stockmovement_append_only
    BEFORE UPDATE OR DELETE ON inventory_stockmovement
    FOR EACH ROW EXECUTE FUNCTION inventory_refuse_change();
CREATE TRIGGER inventory_stockmovement_no_truncate
    BEFORE TRUNCATE ON inventory_stockmovement
    FOR EACH STATEMENT EXECUTE FUNCTION inventory_refuse_change();
"""

# A variant's seller is its product's, and that of stock its variant's and its warehouse's: a tenant
# filter on any of these tables finds the same things.
SAME_SELLER = """
ALTER TABLE inventory_variant ADD CONSTRAINT inventory_variant_seller_of_product
    FOREIGN KEY (product_id, seller_id) REFERENCES inventory_product (id, seller_id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE inventory_stocklevel ADD CONSTRAINT inventory_stocklevel_seller_of_variant
    FOREIGN KEY (variant_id, seller_id) REFERENCES inventory_variant (id, seller_id)
    DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE inventory_stocklevel ADD CONSTRAINT inventory_stocklevel_seller_of_warehouse
    FOREIGN KEY (warehouse_id, seller_id) REFERENCES inventory_warehouse (id, seller_id)
    DEFERRABLE INITIALLY DEFERRED;
"""


class Migration(migrations.Migration):
    dependencies = [("inventory", "0001_initial")]

    operations = [
        migrations.RunSQL(
            APPEND_ONLY,
            "DROP TRIGGER inventory_stockmovement_no_truncate ON inventory_stockmovement;"
            "DROP TRIGGER inventory_stockmovement_append_only ON inventory_stockmovement;"
            "DROP FUNCTION inventory_refuse_change();",
        ),
        migrations.RunSQL(
            SAME_SELLER,
            "ALTER TABLE inventory_stocklevel"
            " DROP CONSTRAINT inventory_stocklevel_seller_of_warehouse,"
            " DROP CONSTRAINT inventory_stocklevel_seller_of_variant;"
            "ALTER TABLE inventory_variant DROP CONSTRAINT inventory_variant_seller_of_product;",
        ),
    ]
