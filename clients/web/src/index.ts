// The shop's API, over REST and over gRPC-Web. All types come from the shop's contract: see README.md.

import { createClient, ConnectError, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import createRestClient, { type Client as RestClient, type Middleware } from "openapi-fetch";

import { ErrorInfoSchema } from "../gen/grpc/google/rpc/error_details_pb.js";
import { CartService } from "../gen/grpc/shop/cart/v1/cart_pb.js";
import { CatalogService } from "../gen/grpc/shop/catalog/v1/catalog_pb.js";
import { OrderService } from "../gen/grpc/shop/order/v1/order_pb.js";
import { RateService } from "../gen/grpc/shop/order/v1/rate_pb.js";
import { PaymentService } from "../gen/grpc/shop/payment/v1/payment_pb.js";
import { AuthService, UserService } from "../gen/grpc/shop/users/v1/users_pb.js";
import type { Error as Refusal, paths } from "../gen/rest.js";

export type * from "../gen/rest.js";

/** What calls are made with. Change it at any time, for example after a sign-in or a refresh. */
export interface Credentials {
  /** `access_token` of Login or RefreshToken: the caller is this user. */
  accessToken?: string | undefined;
  /** `cart_token` of a guest's first AddItem: without an access token, the cart is this one. */
  cartToken?: string | undefined;
}

export interface Options {
  /** Where the shop is, such as `https://shop.example.com`. */
  baseUrl: string;
  credentials?: Credentials;
}

function sign(headers: Headers, { accessToken, cartToken }: Credentials): void {
  if (accessToken) headers.set("authorization", `Bearer ${accessToken}`);
  if (cartToken) headers.set("x-cart-token", cartToken);
}

/**
 * The REST API: `rest.GET("/api/products/{id}/", { params: { path: { id } } })`.
 *
 * A call answers `{ data, error, response }`; nothing is thrown unless the shop is out of reach.
 */
export function rest({ baseUrl, credentials = {} }: Options): RestClient<paths, "application/json"> {
  const signing: Middleware = {
    onRequest({ request }) {
      sign(request.headers, credentials);
      return request;
    },
  };
  const client = createRestClient<paths, "application/json">({ baseUrl });
  client.use(signing);
  return client;
}

/** The services over gRPC-Web. */
export interface Grpc {
  auth: Client<typeof AuthService>;
  users: Client<typeof UserService>;
  catalog: Client<typeof CatalogService>;
  cart: Client<typeof CartService>;
  orders: Client<typeof OrderService>;
  payments: Client<typeof PaymentService>;
  rates: Client<typeof RateService>;
}

/**
 * The services over gRPC-Web: `await grpc.catalog.getProduct({ id })`.
 *
 * A call answers the message, or throws a ConnectError.
 */
export function grpcWeb({ baseUrl, credentials = {} }: Options): Grpc {
  const signing: Interceptor = (next) => (request) => {
    sign(request.header, credentials);
    return next(request);
  };
  const transport = createGrpcWebTransport({ baseUrl, interceptors: [signing] });
  return {
    auth: createClient(AuthService, transport),
    users: createClient(UserService, transport),
    catalog: createClient(CatalogService, transport),
    cart: createClient(CartService, transport),
    orders: createClient(OrderService, transport),
    payments: createClient(PaymentService, transport),
    rates: createClient(RateService, transport),
  };
}

/**
 * Why a call was refused, such as `OUT_OF_STOCK`: what programs decide by. Takes the `error` of a
 * REST call or what a gRPC-Web call has thrown; undefined when it was not the shop that refused.
 */
export function reason(error: unknown): string | undefined {
  if (error instanceof ConnectError) return error.findDetails(ErrorInfoSchema)[0]?.reason;
  for (const detail of (error as Partial<Refusal> | null | undefined)?.details ?? []) {
    if ("reason" in detail && typeof detail.reason === "string") return detail.reason;
  }
  return undefined;
}
